"""Managed objects whose users are killed."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
from conftest import LONG, until

#: A lock of a dead holder is free again within this time. The best of some tries counts.
PROMISE = 0.1
TRIES = 5


def change(shared, items, box, space, ready):
    """Changes everything, until it is killed."""
    ready.release()
    n = 0
    while True:
        shared[n % 50, "key"] = bytes(n % 700)
        shared.pop((n % 41, "key"), None)
        shared["nested"] = {"n": n}
        items.append(n)
        items.sort()
        if len(items) > 60:
            del items[:50]
        box.put([n])
        box.get()
        box.task_done()
        space.x = n
        n += 1


def check(shared, items, box, space):
    """Uses everything, as others do that go on."""
    for (n, key), value in [item for item in shared.items() if item[0] != "nested"]:
        assert key == "key" and len(value) < 700 and n < 50
    assert len(shared) == len(shared.keys())
    shared["mine"] = 1
    assert shared.pop("mine") == 1
    values = items[:]
    assert all(type(value) is int for value in values)
    items.append(-1)
    items.remove(-1)
    while not box.empty():
        box.get()
    box.put("mine")
    assert box.get() == "mine"
    space.y = 1
    assert space.y == 1


def test_killed_users(context, start):
    dice = random.Random(3)
    with context.Manager() as manager:
        objects = manager.dict(), manager.list(), manager.Queue(), manager.Namespace(x=0)
        ready = context.Semaphore(0)
        for _ in range(15):
            victims = [start(context, change, *objects, ready) for _ in range(2)]
            for _ in victims:
                assert ready.acquire(timeout=LONG)
            time.sleep(dice.random() * 0.02)  # so that they may be anywhere
            for victim in victims:
                victim.kill()
                victim.join()
            begin = time.monotonic()
            check(*objects)
            assert time.monotonic() - begin < LONG / 3
        del objects
        until(lambda: manager._number_of_objects() == 0)


def hold(lock, held):
    lock.acquire()
    held.set()
    signal.pause()


@pytest.mark.parametrize("kind", ["Lock", "RLock", "BoundedSemaphore", "Condition"])
def test_killed_holder(context, start, kind):
    with context.Manager() as manager:
        lock, times = getattr(manager, kind)(), []
        for _ in range(TRIES):
            held = context.Event()
            child = start(context, hold, lock, held)
            assert held.wait(LONG) and not lock.acquire(False)
            child.kill()
            child.join()
            begin = time.monotonic()
            assert lock.acquire(True, LONG)
            times.append(time.monotonic() - begin)
            lock.release()
        assert min(times) < PROMISE, times


def make_and_use(shared, ready):
    """Makes objects and proxies of them, until it is killed."""
    ready.release()
    while True:
        shared["made"] = shared["list"]
        own = shared["made"]
        own.append(1)
        shared.update(copy=[own, shared])
        assert shared["copy"][0][-1] == 1
        own.pop()


def test_killed_makers_of_references(context, start):
    dice = random.Random(4)
    with context.Manager() as manager:
        shared, ready = manager.dict(list=manager.list()), context.Semaphore(0)
        for _ in range(15):
            victim = start(context, make_and_use, shared, ready)
            assert ready.acquire(timeout=LONG)
            time.sleep(dice.random() * 0.02)  # so that it may be anywhere
            victim.kill()
            victim.join()
            assert manager._number_of_objects() == 2
            assert type(shared["list"][:]) is list
        shared.clear()
        assert manager._number_of_objects() == 1


def keep_for_ever(shared, ready):
    kept = shared.pop("list")
    ready.set()
    signal.pause()
    del kept


def test_what_only_a_dead_process_referred_to_is_freed(context, start):
    with context.Manager() as manager:
        shared, ready = manager.dict(list=manager.list()), context.Event()
        victim = start(context, keep_for_ever, shared, ready)
        assert ready.wait(LONG)
        assert manager._number_of_objects() == 2
        victim.kill()
        victim.join()
        until(lambda: manager._number_of_objects() == 1)


def go_on(shared, ready):
    ready.set()
    while os.getppid() != 1 and "end" not in shared:
        shared["n"] = shared.get("n", 0) + 1


ORPHANS = """
import os, signal, sys, time
import pagemate.multiprocessing as mp
def go_on(shared, other):
    shared["pid", other] = os.getpid()
    while other not in shared["seen"]:
        time.sleep(0.001)
    # The process that created the manager is dead, and these two go on.
    shared["alive", other] = True
    while not all(("alive", n) in shared for n in range(2)):
        time.sleep(0.001)
    os.write(3, b"x")
if __name__ == "__main__":
    context = mp.get_context(sys.argv[1])
    manager = context.Manager()
    shared = manager.dict(seen=manager.list())
    for n in range(2):
        context.Process(target=go_on, args=(shared, n)).start()
    while not all(("pid", n) in shared for n in range(2)):
        time.sleep(0.001)
    shared["seen"].extend([0, 1])
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_the_others_go_on_without_the_creator(method, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(ORPHANS.replace("os.write(3", "os.write(fd()").replace(
        "def go_on", 'def fd():\n    return os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND)\ndef go_on', 1
    ))
    report = tmp_path / "report"
    report.touch()
    subprocess.run([sys.executable, str(program), method, str(report)])
    until(lambda: report.stat().st_size == 2)


TREE = """
import os, sys, signal
import pagemate.multiprocessing as mp
def child(shared):
    shared["pid"] = os.getpid()
    signal.pause()
if __name__ == "__main__":
    context = mp.get_context(sys.argv[1])
    manager = context.Manager()
    shared = manager.dict(list=manager.list(range(100)))
    context.Process(target=child, args=(shared,)).start()
    while "pid" not in shared:
        pass
    print(os.getpid(), shared["pid"], flush=True)
    signal.pause()
"""


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_a_killed_tree_leaves_nothing(method, tmp_path):
    program = tmp_path / "tree.py"
    program.write_text(TREE)
    before = set(os.listdir("/dev/shm"))
    command = [sys.executable, str(program), method]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as tree:
        pids = [int(pid) for pid in tree.stdout.readline().split()]
        assert len(pids) == 2
        os.killpg(tree.pid, signal.SIGKILL)
    until(lambda: not any(os.path.exists(f"/proc/{pid}/fd/0") for pid in pids))
    assert not {name for name in os.listdir("/dev/shm") if name not in before and "pagemate" in name}
