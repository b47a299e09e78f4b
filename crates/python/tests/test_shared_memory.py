"""``SharedMemory``, ``ShareableList`` and their manager."""

import multiprocessing.shared_memory
import os
import pickle
import signal
import subprocess
import sys
import time

import pagemate
import pytest
from conftest import LONG, ended, until
from pagemate.multiprocessing import managers, shared_names
from pagemate.multiprocessing.shared_memory import ShareableList, SharedMemory


@pytest.fixture
def name():
    """A name for memory with a file, which is removed afterwards."""
    name = f"pagemate-test-{os.getpid()}"
    yield name
    if os.path.exists(f"/dev/shm/{name}"):
        os.unlink(f"/dev/shm/{name}")


def files():
    return set(os.listdir("/dev/shm"))


def write(name, done):
    memory = SharedMemory(name)
    memory.buf[:5] = b"hello"
    memory.close()
    done.set()


def write_to(memory):
    memory.buf[5:10] = b"again"


def test_it_is_shared(context, start):
    before, done = files(), context.Event()
    memory = SharedMemory(create=True, size=100)
    assert memory.size == 100 and bytes(memory.buf) == bytes(100)
    ended(start(context, write, memory.name, done))
    ended(start(context, write_to, memory))
    assert done.is_set() and bytes(memory.buf[:10]) == b"helloagain"
    again = pickle.loads(pickle.dumps(memory))
    assert again.name == memory.name and again.buf[0] == ord("h")
    assert files() == before, "there is no file"
    memory.unlink()
    with pytest.raises(FileNotFoundError):
        SharedMemory(memory.name)
    with pytest.raises(FileNotFoundError):
        again.unlink()
    again.buf[0] = ord("H")
    assert memory.buf[0] == ord("H"), "those who have it go on"


def test_arguments_are_checked(name):
    for size in (0, -1):
        with pytest.raises(ValueError):
            SharedMemory(create=True, size=size)
    with pytest.raises(ValueError):
        SharedMemory()
    with pytest.raises(FileNotFoundError):
        SharedMemory(name)
    with pytest.raises(OSError):
        SharedMemory("a/b", create=True, size=1)
    memory = SharedMemory(create=True, size=1, track=False)
    view = memory.buf[:]
    with pytest.raises(BufferError):
        memory.close()
    view.release()
    memory.close()
    assert memory.buf is None
    memory.close()
    assert SharedMemory(memory.name).size == 1, "the name leads to it until it is unlinked"
    memory.unlink()


def test_memory_is_there_before_it_is_used():
    """A full file system is an error, and not a SIGBUS later."""
    with pytest.raises(OSError):
        SharedMemory(create=True, size=1 << 50)


def make(box):
    memory = SharedMemory(create=True, size=10)
    memory.buf[0] = 7
    box.put(memory.name)


def make_and_keep(box):
    global _kept
    _kept = SharedMemory(create=True, size=10)
    _kept.buf[0] = 7
    box.put(_kept.name)


def make_name():
    memory = SharedMemory(create=True, size=10)
    memory.buf[0] = 7
    return memory.name


@pytest.mark.parametrize("target", [make, make_and_keep])
def test_a_child_may_leave_it_to_its_parent(context, start, target):
    before, box = files(), context.Queue()
    ended(start(context, target, box))
    memory = SharedMemory(box.get())
    assert memory.buf[0] == 7
    memory.unlink()
    assert files() == before


def test_a_worker_may_leave_it_to_the_pool(context):
    before = files()
    with context.Pool(1) as pool:
        names = [pool.apply(make_name) for _ in range(3)]
    for name in names:
        memory = SharedMemory(name)
        assert memory.buf[0] == 7
        memory.unlink()
    assert files() == before


def attach_and_wait(name, ready):
    memory = SharedMemory(name)
    ready.set()
    signal.pause()
    del memory


@pytest.mark.parametrize("given", [False, True])
def test_a_process_that_attached_removes_nothing(context, start, name, given):
    memory = SharedMemory(name if given else None, create=True, size=10)
    for end in (lambda child: child.kill(), lambda child: child.terminate()):
        ready = context.Event()
        child = start(context, attach_and_wait, memory.name, ready)
        assert ready.wait(LONG)
        end(child)
        child.join()
        SharedMemory(memory.name).close()
    memory.unlink()


def test_it_is_found_through_any_process_that_has_it(context, start):
    ready, box = context.Event(), context.Queue()
    maker = start(context, make_and_wait, box)
    name = box.get()
    user = start(context, attach_and_wait, name, ready)
    assert ready.wait(LONG)
    maker.kill()
    maker.join()
    assert SharedMemory(name).buf[0] == 7
    user.kill()
    user.join()
    with pytest.raises(FileNotFoundError):
        SharedMemory(name)


def make_and_wait(box):
    make_and_keep(box)
    signal.pause()


TREE = """
import os, sys, signal
import pagemate.multiprocessing as mp
from pagemate.multiprocessing.shared_memory import SharedMemory, ShareableList
def child(box, shared):
    own = SharedMemory(create=True, size=10)
    box.put(os.getpid())
    signal.pause()
if __name__ == "__main__":
    context = mp.get_context(sys.argv[1])
    box, shared, items = context.Queue(), SharedMemory(create=True, size=100), ShareableList([1, "a"])
    context.Process(target=child, args=(box, shared)).start()
    print(os.getpid(), box.get(), flush=True)
    if sys.argv[2] == "pause":
        signal.pause()
    os.kill(mp.active_children()[0].pid, signal.SIGTERM)
"""


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
@pytest.mark.parametrize("end", ["pause", "exit"])
def test_a_tree_leaves_nothing_and_says_nothing(method, end, tmp_path):
    program = tmp_path / "tree.py"
    program.write_text(TREE)
    before = files()
    command = [sys.executable, "-X", "dev", "-W", "error", str(program), method, end]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as tree:
        pids = [int(pid) for pid in tree.stdout.readline().split()]
        assert len(pids) == 2
        if end == "pause":
            os.killpg(tree.pid, signal.SIGKILL)
        assert tree.communicate()[1] == ""
    until(lambda: not any(os.path.exists(f"/proc/{pid}/fd/0") for pid in pids))
    assert files() == before


LEFT = """
import os, signal, sys
from pagemate.multiprocessing.shared_memory import SharedMemory
memory = SharedMemory(sys.argv[1], create=True, size=10)
print(memory.name, flush=True)
if sys.argv[2] == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_file_goes_with_the_main_process_of_its_creator(name):
    subprocess.run([sys.executable, "-X", "dev", "-W", "error", "-c", LEFT, name, "exit"], check=True)
    assert name not in files()
    with subprocess.Popen(
        [sys.executable, "-c", LEFT.replace("kill(", "kill(") + "input()", name, "exit"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as other:  # fmt: skip
        other.stdout.readline()
        used = SharedMemory(name)
        other.communicate("\n")
    assert name in files(), "somebody uses it"
    used.close()
    used.unlink()


def test_a_file_of_dead_processes_is_replaced(name):
    assert subprocess.run([sys.executable, "-c", LEFT, name, "kill"]).returncode == -9
    assert name in files()
    other = multiprocessing.shared_memory.SharedMemory(f"{name}-std", create=True, size=1)
    try:
        subprocess.run([sys.executable, "-c", LEFT, f"{name}-2", "exit"], check=True)
        assert name not in files() and f"{name}-std" in files()
    finally:
        other.close()
        other.unlink()
    assert subprocess.run([sys.executable, "-c", LEFT, name, "kill"]).returncode == -9
    memory = SharedMemory(name, create=True, size=20)
    assert memory.size == 20
    with pytest.raises(FileExistsError):
        SharedMemory(name, create=True, size=20)
    memory.unlink()


def test_with_the_standard_library(name):
    standard = multiprocessing.shared_memory.SharedMemory(name, create=True, size=10)
    own = SharedMemory(name)
    own.buf[0] = 5
    assert standard.buf[0] == 5
    own.close()
    standard.close()
    standard.unlink()
    own = SharedMemory(name, create=True, size=10)
    with subprocess.Popen(
        [sys.executable, "-c", STANDARD, name], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as other:
        assert other.wait(LONG) == 0
    assert own.buf[0] == 6
    own.close()


STANDARD = """
import sys
from multiprocessing.shared_memory import SharedMemory
memory = SharedMemory(sys.argv[1])
memory.buf[0] = 6
memory.close()
"""


ITEMS = ["howdy\0", b"HoWdY\0\0", "", b"\0", "é" * 9, -273.154, 100, None, True, "x" * 8, b"12345678"]


def test_list_keeps_what_it_is_given():
    items = ShareableList(ITEMS)
    assert list(items) == ITEMS and [type(item) for item in items] == [type(item) for item in ITEMS]
    other = ShareableList(name=items.shm.name)
    again = pickle.loads(pickle.dumps(items))
    assert list(other) == list(again) == ITEMS
    other[0] = b"\0\0"
    other[-2] = "y\0"
    assert again[0] == b"\0\0" and items[9] == "y\0"
    with pytest.raises(ValueError, match="exceeds"):
        items[0] = "x" * 9
    for index in (11, -12):
        with pytest.raises(IndexError):
            items[index]
        with pytest.raises(IndexError):
            items[index] = 1
    assert len(items) == 11 and items.count(100) == 1 and items.index(None) == 7
    with pytest.raises(ValueError):
        items.index("zz")
    assert repr(items).startswith("ShareableList(") and len(ShareableList()) == 0
    assert ShareableList(["howdy", b"HoWdY", -273.154, 100, None, True, 42]).format == (
        "8s8sdqxxxxxx?xxxxxxxx?q"
    )
    items.shm.unlink()


def test_lists_of_the_standard_library(name):
    standard = multiprocessing.shared_memory.ShareableList(["a", b"b", 1, None], name=name)
    own = ShareableList(name=name)
    assert list(own) == ["a", b"b", 1, None]
    own[0] = "longer"
    assert standard[0] == "longer"
    own.shm.close()
    standard.shm.close()
    standard.shm.unlink()


def test_manager(context):
    before = files()
    with managers.SharedMemoryManager(ctx=context) as manager:
        memory, items = manager.SharedMemory(10), manager.ShareableList([1, "a"])
        assert SharedMemory(memory.name).size == 10 and list(ShareableList(name=items.shm.name)) == [1, "a"]
    for name in (memory.name, items.shm.name):
        with pytest.raises(FileNotFoundError):
            SharedMemory(name)
    assert files() == before


def test_without_the_directory(monkeypatch):
    monkeypatch.setattr(shared_names, "DIRECTORY", "/nowhere")
    memory = SharedMemory(create=True, size=10)
    memory.buf[0] = 3
    assert SharedMemory(memory.name).buf[0] == 3
    memory.unlink()


def test_a_forked_child_has_it_after_its_parent():
    context = pagemate.get_context("fork")
    box = context.Queue()
    memory = SharedMemory(create=True, size=10)
    name = memory.name
    ready = context.Event()
    child = context.Process(target=wait_with, args=(memory, ready))
    child.start()
    assert ready.wait(LONG)
    users = {pid for pid, _, _ in shared_names._users("/" + name)}
    assert users == {os.getpid(), child.pid} and box.empty()
    child.kill()
    child.join()
    until(lambda: {pid for pid, _, _ in shared_names._users("/" + name)} == {os.getpid()})
    memory.unlink()
    time.sleep(0)


def wait_with(memory, ready):
    ready.set()
    signal.pause()
