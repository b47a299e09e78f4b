"""Killed processes hold nothing up."""

import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import LONG, ended, is_blocked, until

#: A death is noticed, and a wait ends by Ctrl-C, within this time.
PROMISE = 0.1
#: The promise is checked for the best of as many tries, since a busy machine delays any process.
TRIES = 5


def hold(lock, held):
    lock.acquire()
    held.set()
    signal.pause()


@pytest.mark.parametrize("kind", ["Lock", "RLock", "BoundedSemaphore", "Condition"])
def test_killed_holder(context, start, kind):
    lock, times = getattr(context, kind)(), []
    for _ in range(TRIES):
        held = context.Event()
        child = start(context, hold, lock, held)
        assert held.wait(LONG) and not lock.acquire(False)
        child.kill()
        child.join()
        begin = time.monotonic()
        assert lock.acquire(timeout=LONG)
        times.append(time.monotonic() - begin)
        lock.release()
    assert min(times) < PROMISE, times


def collect(inbox, outbox):
    while (message := inbox.get()) is not None:
        outbox.put(message)


def test_killed_reader(context, start):
    inbox, outbox = context.Queue(), context.Queue()
    victim = start(context, collect, inbox, outbox)
    until(lambda: is_blocked(victim.pid))
    survivor = start(context, collect, inbox, outbox)
    until(lambda: is_blocked(survivor.pid))
    victim.kill()
    victim.join()
    for n in range(100):
        inbox.put(n)
    assert [outbox.get(timeout=LONG) for _ in range(100)] == list(range(100))
    inbox.put(None)
    ended(survivor)


def write(outbox):
    n = 0
    while True:
        outbox.put((n, bytes(n % 1000)))
        n += 1


def test_killed_writer(context, start):
    outbox = context.Queue(64)
    for received in (0, 1, 10, 500):
        victim = start(context, write, outbox)
        messages = [outbox.get(timeout=LONG) for _ in range(received)]
        victim.kill()
        victim.join()
        while not outbox.empty():
            messages.append(outbox.get(timeout=LONG))
        assert messages == [(n, bytes(n % 1000)) for n in range(len(messages))]
        outbox.put("more")
        assert outbox.get(timeout=LONG) == "more"


def write_large(outbox):
    n = 0
    while True:
        outbox.put((n, bytes(100_000)))
        n += 1


def test_killed_writer_of_large_messages(context, start):
    outbox = context.Queue(4)
    for received in (0, 1, 20):
        victim = start(context, write_large, outbox)
        messages = [outbox.get(timeout=LONG)[0] for _ in range(received)]
        victim.kill()
        victim.join()
        while not outbox.empty():
            messages.append(outbox.get(timeout=LONG)[0])
        assert messages == list(range(len(messages)))
        outbox.put(bytes(100_000))
        assert outbox.get(timeout=LONG) == bytes(100_000)


def wait_for(condition, ready):
    with condition:
        ready.release()
        condition.wait()


def test_killed_waiter(context, start):
    condition, ready = context.Condition(), context.Semaphore(0)
    victim = start(context, wait_for, condition, ready)
    survivor = start(context, wait_for, condition, ready)
    assert ready.acquire(timeout=LONG) and ready.acquire(timeout=LONG)
    with condition:  # so both wait
        victim.kill()
        victim.join()
        condition.notify_all()
    ended(survivor)


PROGRAM = """
import signal, sys, time
import pagemate.multiprocessing as mp
signal.signal(signal.SIGINT, signal.default_int_handler)  # the tests may run where it is ignored
queue, event, lock, semaphore = mp.Queue(1), mp.Event(), mp.Lock(), mp.Semaphore(0)
condition, barrier, bounded = mp.Condition(), mp.Barrier(2), mp.BoundedSemaphore()
joinable = mp.JoinableQueue()
lock.acquire(); bounded.acquire(); condition.acquire(); joinable.put(1)
full = mp.Queue(1); full.put(1)
print("ready", flush=True)
try:
    {call}
except KeyboardInterrupt:
    print(time.monotonic(), flush=True)
"""


@pytest.mark.parametrize(
    "call",
    [
        "queue.get()",
        "queue.get(timeout=100)",
        "full.put(2)",
        "event.wait()",
        "lock.acquire()",
        "semaphore.acquire()",
        "bounded.acquire()",
        "condition.wait()",
        "barrier.wait()",
        "joinable.join()",
    ],
)
def test_interrupt(call):
    times = []
    for _ in range(TRIES):
        command = [sys.executable, "-c", PROGRAM.format(call=call)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
            assert program.stdout.readline() == "ready\n"
            until(lambda: is_blocked(program.pid))
            begin = time.monotonic()
            program.send_signal(signal.SIGINT)
            times.append(float(program.stdout.readline()) - begin)
            assert program.wait(LONG) == 0
    assert min(times) < PROMISE, times


TREE = """
import os, sys, signal
import pagemate.multiprocessing as mp
def child(*objects):
    objects[0].put(os.getpid())
    signal.pause()
if __name__ == "__main__":
    context = mp.get_context(sys.argv[1])
    objects = (
        context.Queue(), context.JoinableQueue(), context.Event(), context.Lock(), context.RLock(),
        context.Semaphore(), context.BoundedSemaphore(), context.Condition(), context.Barrier(2),
        context.Value("i"), context.Array("i", 3),
    )
    for _ in range(2):
        context.Process(target=child, args=objects).start()
    pids = [os.getpid(), objects[0].get(), objects[0].get()]
    print(*pids, flush=True)
    signal.pause()
"""


def names(pid):
    """Returns the files in /dev/shm that a process has mapped or open, and that have a name."""
    found = set()
    with open(f"/proc/{pid}/maps") as maps:
        found.update(line.split(maxsplit=5)[-1].strip() for line in maps)
    for number in os.listdir(f"/proc/{pid}/fd"):
        found.add(os.readlink(f"/proc/{pid}/fd/{number}"))
    return {name for name in found if name.startswith("/dev/shm/") and os.path.exists(name)}


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_nothing_has_a_name_that_could_be_left(method, tmp_path):
    program = tmp_path / "tree.py"
    program.write_text(TREE)
    command = [sys.executable, str(program), method]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as tree:
        pids = [int(pid) for pid in tree.stdout.readline().split()]
        assert len(pids) == 3
        try:
            assert {name for pid in pids for name in names(pid)} == set()
        finally:
            os.killpg(tree.pid, signal.SIGKILL)
    until(lambda: not any(os.path.exists(f"/proc/{pid}/fd/0") for pid in pids))
