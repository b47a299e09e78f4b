"""Messages of queues: pickles with buffers of any size, which arrive as views."""

import copyreg
import os
import pickle
import queue
import signal
import threading
import weakref
from multiprocessing import reduction

import numpy
import pagemate.multiprocessing as multiprocessing
import pytest
from conftest import LONG, ended, until

#: Bytes of arrays: with the pickle in a slot or the quota, in memory that is copied when it is
#: received, and in memory that is mapped.
SIZES = [0, 8, 800, 20_000, 40_000, 100_000, 5_000_000]


def memory(queue):
    """Returns the bytes of shared memory that a queue has taken."""
    return os.fstat(queue._descriptor()).st_blocks * 512


def mapped():
    """Returns how many views into queues this process has mapped."""
    with open("/proc/self/maps") as maps:
        return sum("pagemate" in line and " r--s " in f" {line.split()[1]} " for line in maps)


def echo(inbox, outbox):
    while (message := inbox.get()) is not None:
        outbox.put(message)


@pytest.mark.parametrize("size", SIZES)
def test_arrays(context, start, size):
    inbox, outbox = context.Queue(), context.Queue()
    child = start(context, echo, inbox, outbox)
    arrays = [numpy.arange(size // 8), numpy.ones((size // 16, 2), order="F"), numpy.arange(size)[::3]]
    message = {"arrays": arrays, "buffer": pickle.PickleBuffer(b"b" * size), "bytes": bytes(size)}
    inbox.put(message)
    received = outbox.get(timeout=LONG)
    inbox.put(None)
    ended(child)
    assert all((ours == theirs).all() for ours, theirs in zip(arrays, received["arrays"]))
    assert bytes(received["buffer"]) == b"b" * size and received["bytes"] == bytes(size)
    for array in received["arrays"][:2]:  # the third one has gaps, and was copied
        assert array.ctypes.data % 64 == 0 and not array.flags.writeable and not array.flags.owndata
    assert memoryview(received["buffer"]).readonly


def test_a_view_keeps_the_memory(context):
    messages = context.Queue()
    for view in [lambda array: array, lambda array: array[-1:], memoryview]:
        messages.put(numpy.arange(1_000_000))
        kept = view(messages.get())
        used = memory(messages)
        for n in range(20):
            messages.put(numpy.full(1_000_000, n))
            assert (messages.get() == n).all()
        assert kept[-1] == 999_999, "the memory of other messages"
        assert memory(messages) <= used + 20_000_000
        del kept
    assert mapped() == 0


def test_views_outlive_their_queue(context):
    messages = context.Queue()
    messages.put(numpy.arange(1_000_000))
    array = messages.get()
    del messages
    assert (array == numpy.arange(1_000_000)).all()


def test_memory_is_used_again(context):
    messages = context.Queue()
    sizes = [1000, 30_000, 70_000, 500_000, 2_000_000]
    for _ in range(2):
        for size in sizes * 10:
            messages.put(numpy.zeros(size, dtype="u1"))
            messages.get()
    used = memory(messages)
    for n in range(3000):
        messages.put(numpy.zeros(sizes[n % 5] - n, dtype="u1"))
        messages.get()
    assert memory(messages) == used and mapped() == 0


def test_what_was_received_was_not_copied(context):
    messages = context.Queue()
    messages.put(numpy.ones(8 << 20))
    with open("/proc/self/smaps_rollup") as rollup:
        before = rollup.read()
    array = messages.get()
    with open("/proc/self/smaps_rollup") as rollup:
        after = rollup.read()
    rss = [int(text.split("Rss:")[1].split()[0]) for text in (before, after)]
    assert rss[1] - rss[0] < 8 << 10, "64 MiB arrived, and nothing was read"
    assert (array == 1).all()


def test_many_views_at_once(context):
    messages = context.Queue(4)
    arrays = []
    for n in range(500):
        messages.put(numpy.full(20_000, n))
        arrays.append(messages.get())
    assert mapped() == 500
    assert all((array == n).all() for n, array in enumerate(arrays))
    del arrays
    assert mapped() == 0


def test_threads(context):
    messages, results = context.Queue(8), queue.Queue()

    def put(name):
        for n in range(200):
            messages.put((name, n, numpy.full(n * 97, name)))

    def get():
        while (message := messages.get()) is not None:
            results.put((message[0], message[1], (message[2] == message[0]).all()))

    threads = [threading.Thread(target=put, args=(name,)) for name in range(3)]
    readers = [threading.Thread(target=get) for _ in range(3)]
    for thread in threads + readers:
        thread.start()
    for thread in threads:
        thread.join()
    for _ in readers:
        messages.put(None)
    for thread in readers:
        thread.join()
    assert sorted(results.queue) == [(name, n, True) for name in range(3) for n in range(200)]


def test_full(context):
    messages = context.Queue(2)
    for content in (1, bytes(1000), bytes(100_000), numpy.ones(100_000)):
        messages.put(content)
        messages.put(content)
        for block, timeout in [(False, None), (True, 0.01), (True, -1)]:
            with pytest.raises(queue.Full):
                messages.put(content, block, timeout)
        assert numpy.all(messages.get() == content) and numpy.all(messages.get() == content)
        assert messages.empty()
    used = memory(messages)
    for _ in range(50):
        messages.put(1)
        messages.put(2)
        with pytest.raises(queue.Full):
            messages.put(numpy.ones(100_000), timeout=0.001)
        messages.get()
        messages.get()
    assert memory(messages) == used


class Registered:
    def __init__(self, text):
        self.text = text


def test_reductions_that_are_registered_at_any_time(context):
    messages = context.Queue()
    messages.put(Registered("before"))
    reduction.ForkingPickler.register(Registered, lambda obj: (Registered, (f"forking {obj.text}",)))
    try:
        messages.put(Registered("x"))
        copyreg.pickle(Registered, lambda obj: (Registered, (f"copyreg {obj.text}",)))
        messages.put(Registered("x"))
        del reduction.ForkingPickler._extra_reducers[Registered]
        messages.put(Registered("x"))
    finally:
        reduction.ForkingPickler._extra_reducers.pop(Registered, None)
        copyreg.dispatch_table.pop(Registered, None)
    assert [messages.get().text for _ in range(4)] == ["before", "forking x", "forking x", "copyreg x"]


class Nested:
    """An object that sends a message while it is pickled."""

    def __init__(self, messages):
        self.messages = messages

    def __reduce__(self):
        self.messages.put(("inner", numpy.arange(10)))
        return tuple, (["outer"],)


class Unpicklable:
    def __reduce__(self):
        raise ZeroDivisionError


def test_messages_within_messages(context):
    messages = context.Queue()
    shared = [1]
    messages.put([shared, shared, Nested(messages), shared])
    name, array = messages.get()
    assert name == "inner" and (array == numpy.arange(10)).all()
    a, b, outer, c = messages.get()
    assert outer == ("outer",) and a is b is c


def test_unpicklable(context, capfd):
    messages = context.Queue(1)
    for _ in range(3):
        messages.put([numpy.ones(3), Unpicklable()])
        messages.put("still usable")
        assert messages.get() == "still usable"
    assert capfd.readouterr().err.count("ZeroDivisionError") == 3

    class Safe(type(messages)):
        errors = []

        def _on_queue_feeder_error(self, error, obj):
            self.errors.append((type(error), obj))

    safe = Safe(1)
    safe.put(Safe)  # it is no attribute of a module
    assert [obj for _, obj in safe.errors] == [Safe] and safe.empty()


def test_nothing_of_a_message_is_kept(context):
    messages = context.Queue()

    content = Registered(numpy.ones(10_000))
    alive = weakref.ref(content)
    messages.put([content, content])
    del content
    assert alive() is None


def test_forked_children_keep_their_views():
    context = multiprocessing.get_context("fork")
    messages, (way, other) = context.Queue(), multiprocessing.Pipe()
    messages.put(numpy.arange(1_000_000))
    array = messages.get()
    part = array[500_000:]

    def check():
        other.recv()  # the parent has freed and used its memory
        assert (part == numpy.arange(500_000, 1_000_000)).all()

    child = context.Process(target=check)
    child.start()
    assert (array == numpy.arange(1_000_000)).all() and mapped() == 0
    used = memory(messages)
    del array, part
    for n in range(3):
        messages.put(numpy.zeros(1_000_000))
        assert not messages.get().any()
    assert memory(messages) == used
    way.send("now")
    ended(child)


def hold(inbox, outbox):
    """Receives messages and keeps them."""
    kept = []
    while True:
        kept.append(inbox.get())
        outbox.put(len(kept))


def test_the_views_of_a_dead_process_are_freed(context, start):
    inbox, outbox = context.Queue(), context.Queue()
    used = []
    for _ in range(6):
        victim = start(context, hold, inbox, outbox)
        for _ in range(10):
            inbox.put(numpy.ones(500_000))
        assert [outbox.get(timeout=LONG) for _ in range(10)] == list(range(1, 11))
        used.append(memory(inbox))
        victim.kill()
        victim.join()
        until(inbox.empty)
        # A process that waits notices the death.
        with pytest.raises(queue.Empty):
            inbox.get(timeout=0.2)
    assert used[-1] < used[0] + 80_000_000, "40 MB were lost with each"


def scatter(outbox, first):
    n = first
    while True:
        outbox.put((n, numpy.full(n * 7919 % 300_000, n)))
        n += 1


def gather(inbox, outbox):
    while (message := inbox.get()) is not None:
        n, array = message
        assert (array == n).all()
        outbox.put(n)


def test_killed_at_any_moment(context, start):
    """Writers and readers are killed. The readers lose a message each; no memory is lost."""
    inbox, outbox, used = context.Queue(16), context.Queue(), []
    survivor = start(context, gather, inbox, outbox)
    seen, rounds, apart = [], 12, 1_000_000
    for number in range(rounds):
        writer = start(context, scatter, inbox, number * apart)
        reader = start(context, gather, inbox, outbox)
        seen.extend(outbox.get(timeout=LONG) for _ in range(30 + number))
        for victim in (writer, reader):
            victim.kill()
            victim.join()
        until(inbox.empty)
        used.append(memory(inbox))
    inbox.put(None)
    ended(survivor)
    while not outbox.empty():
        seen.append(outbox.get())
    assert len(seen) == len(set(seen)), "received twice"
    missing = 0
    for number in range(rounds):
        own = {n for n in seen if n // apart == number}
        missing += max(own) - number * apart + 1 - len(own)
    assert missing <= rounds
    assert used[-1] <= max(used[:3]) + 50_000_000, used


def test_a_child_that_is_stopped_holds_nobody_up(context, start):
    inbox, outbox = context.Queue(), context.Queue()
    stopped = start(context, gather, inbox, outbox)
    inbox.put((1, numpy.full(100_000, 1)))
    assert outbox.get(timeout=LONG) == 1
    os.kill(stopped.pid, signal.SIGSTOP)
    other = start(context, gather, inbox, outbox)
    for n in range(20):
        inbox.put((n, numpy.full(100_000, n)))
    assert [outbox.get(timeout=LONG) for _ in range(20)] == list(range(20))
    inbox.put(None)
    ended(other)
