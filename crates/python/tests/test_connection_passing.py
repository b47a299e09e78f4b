"""Buffers and descriptors that go with the messages of pipes."""

import os
import pickle
import resource
import subprocess
import sys
from multiprocessing import connection as standard

import numpy
import pagemate.multiprocessing as multiprocessing
import pytest
from conftest import LONG, ended, send, until
from pagemate.multiprocessing.connection import Pipe
from test_connection import SHORT


def mapped():
    """Returns how many long messages this process has mapped."""
    with open("/proc/self/maps") as maps:
        return sum("memfd:pagemate message" in line for line in maps)


def descriptors():
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("size", [0, 7, SHORT // 16, SHORT])
def test_buffers(size):
    first, second = Pipe()
    before = descriptors()
    arrays = [numpy.arange(size, dtype="f8"), numpy.ones((size, 2), order="F"), numpy.arange(size)[::2]]
    sender = send(first, (arrays, pickle.PickleBuffer(b"bytes" * size), "rest"))
    received, buffer, rest = second.recv()
    sender.join()
    assert all((ours == theirs).all() for ours, theirs in zip(arrays, received))
    assert bytes(buffer) == b"bytes" * size and rest == "rest"
    for array in received[:2]:  # the third one has gaps, and was copied
        assert array.flags.f_contiguous or array.flags.c_contiguous
        assert array.ctypes.data % 64 == 0 and not array.flags.writeable and not array.flags.owndata
    assert memoryview(buffer).readonly
    assert mapped() == (1 if size >= SHORT // 16 else 0)
    assert descriptors() == before, "a mapping needs none"
    tail = memoryview(received[0])[-1:]
    del received, array, buffer
    assert size == 0 or tail[0] == size - 1, "a view keeps the memory"
    assert mapped() == (1 if size >= SHORT // 16 else 0)
    del tail
    assert mapped() == 0


def test_buffers_as_bytes():
    first, second = Pipe()
    for size in (10, SHORT):
        array = numpy.arange(size)
        first.send(array)
        assert (pickle.loads(second.recv_bytes()) == array).all()
        first.send(array)
        target = bytearray(10 * size + 1000)
        length = second.recv_bytes_into(target)
        assert (pickle.loads(target[:length]) == array).all()
    assert mapped() == 0


def test_received_arrays_are_not_copied():
    first, second = Pipe()
    array = numpy.ones(8 << 20)
    send(first, array)
    until(second.poll)
    with open("/proc/self/smaps_rollup") as rollup:
        before = rollup.read()
    received = second.recv()
    with open("/proc/self/smaps_rollup") as rollup:
        after = rollup.read()
    rss = [int(text.split("Rss:")[1].split()[0]) for text in (before, after)]
    assert rss[1] - rss[0] < 8 << 10, "64 MiB arrived, and nothing was read"
    assert (received == array).all()


def answer(name, way):
    """Sends through a connection that came through another one."""
    way.recv().send(name)


def test_connections_through_pipes(context, start):
    way, other = context.Pipe()
    child = start(context, answer, "child", other)
    reader, writer = context.Pipe(duplex=False)
    way.send(writer)
    assert reader.recv() == "child"
    ended(child)


def give_away(way):
    reader, writer = Pipe(duplex=False)
    writer.send("written by the dead")
    way.send([reader, multiprocessing.Lock()])


def test_descriptors_outlive_their_sender(context, start):
    way, other = context.Pipe()
    ended(start(context, give_away, other))
    reader, lock = way.recv()
    assert reader.recv() == "written by the dead"
    assert lock.acquire() and not lock.acquire(False)


def answer_through_queue(queue):
    queue.get().send("child")


@pytest.mark.parametrize("kind", ["Queue", "SimpleQueue", "JoinableQueue"])
def test_connections_through_queues(context, start, kind):
    queue = getattr(context, kind)()
    child = start(context, answer_through_queue, queue)
    reader, writer = context.Pipe(duplex=False)
    queue.put(writer)
    assert reader.recv() == "child"
    ended(child)


def test_connections_through_the_standard_librarys():
    ours, theirs = Pipe(), standard.Pipe()
    theirs[0].send(ours[0])
    theirs[1].recv().send("through theirs")
    assert ours[1].recv() == "through theirs"
    ours[0].send(theirs[0])
    ours[1].recv().send("through ours")
    assert theirs[1].recv() == "through ours"


def test_many_descriptors():
    first, second = Pipe()
    before = descriptors()
    pipes = [Pipe(duplex=False) for _ in range(300)]
    first.send([writer for _, writer in pipes])
    received = second.recv()
    for number, writer in enumerate(received):
        writer.send(number)
    assert [reader.recv() for reader, _ in pipes] == list(range(300))
    del pipes, received, writer
    until(lambda: descriptors() <= before + 3)  # the thread that serves descriptors has some


def test_descriptors_that_nobody_takes_are_closed():
    first, second = Pipe()
    before = descriptors()
    first.send(Pipe())
    second.recv_bytes()
    first.send([Pipe(), Unloadable()])
    with pytest.raises(ZeroDivisionError):
        second.recv()
    first.send(Pipe())
    del first
    with pytest.raises(RuntimeError, match="inheritance"):
        pickle.dumps(multiprocessing.Lock())
    second.close()
    assert descriptors() <= before + 3  # as above


class Unloadable:
    def __reduce__(self):
        return divmod, (1, 0)


def test_no_room_for_descriptors():
    first, second = Pipe()
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    number = os.dup(0)
    first.send(Pipe())
    os.close(number)
    resource.setrlimit(resource.RLIMIT_NOFILE, (number, before[1]))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            second.recv()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    first.send("after it")
    assert second.recv() == "after it"


UNPRIVILEGED = """
import os, resource, threading, time
from pagemate.multiprocessing.connection import Pipe
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
pipes = [Pipe(duplex=False) for _ in range(30)]
sent = []
def send():
    for _ in range(4):
        for _, writer in pipes:
            writer.send_bytes(bytes(100_000))
            sent.append(writer)
    print("sent", flush=True)
sender = threading.Thread(target=send, daemon=True)
sender.start()
while len(sent) < 100:
    assert sender.is_alive()
    time.sleep(0.001)
# Now as many descriptors are in sockets as the kernel allows, and the others must wait.
for _ in range(4):
    for reader, _ in pipes:
        assert reader.recv_bytes() == bytes(100_000)
sender.join()
"""


def test_too_many_descriptors_in_sockets():
    program = [sys.executable, "-c", UNPRIVILEGED]
    assert subprocess.run(program, timeout=LONG, capture_output=True, text=True).stdout == "sent\n"
