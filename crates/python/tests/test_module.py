"""The package in place of multiprocessing."""

import concurrent.futures
import importlib
import multiprocessing
import pkgutil
import subprocess
import sys

import pagemate
import pagemate.multiprocessing
import pytest
from conftest import ended


def test_it_has_all_names():
    assert set(multiprocessing.__all__) == set(pagemate.multiprocessing.__all__)
    for name in pagemate.multiprocessing.__all__:
        getattr(pagemate.multiprocessing, name)
    for module in pkgutil.iter_modules(pagemate.multiprocessing.__path__):
        importlib.import_module(f"pagemate.multiprocessing.{module.name}")
    assert pagemate.multiprocessing.process is multiprocessing.process


def test_contexts():
    for method in multiprocessing.get_all_start_methods():
        context = pagemate.get_context(method)
        assert isinstance(context, multiprocessing.context.BaseContext)
        assert context.get_start_method() == method and context.get_context() is context
        assert type(context.Queue()).__module__.startswith("pagemate.")
    with pytest.raises(ValueError, match="cannot find context"):
        pagemate.get_context("thread")


def test_executor(context):
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as executor:
        assert list(executor.map(abs, range(-20, 0))) == list(range(20, 0, -1))


def test_pool_and_manager(context):
    with context.Pool(2) as pool:
        assert pool.map(abs, [-1, 2]) == [1, 2]
    with context.Manager() as manager:
        assert manager.dict(a=1).copy() == {"a": 1}


def take_and_leave(lock, permits):
    lock.acquire()
    permits.acquire()


def test_a_process_that_ends_leaves_its_locks(context, start):
    lock, permits = context.Lock(), context.BoundedSemaphore(1)
    ended(start(context, take_and_leave, lock, permits))
    assert lock.acquire(timeout=1) and permits.acquire(timeout=1)


PROGRAM = """
import pagemate.multiprocessing as mp
def child(queue):
    queue.put(mp.get_start_method())
if __name__ == "__main__":
    mp.set_start_method("spawn")
    queue = mp.Queue()
    process = mp.Process(target=child, args=(queue,))
    process.start()
    assert queue.get() == "spawn"
    process.join()
    assert type(mp.get_context().Lock()) is type(mp.Lock())
"""


def test_the_start_method_is_that_of_the_parent(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    subprocess.run([sys.executable, "-X", "dev", "-W", "error", str(program)], check=True)
