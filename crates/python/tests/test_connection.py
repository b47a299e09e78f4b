"""Pipes and simple queues: messages between processes, with each start method."""

import os
import pickle
import random
import socket
import struct

import numpy
import pagemate.multiprocessing as multiprocessing
import pytest
from conftest import LONG, ended, is_blocked, send, until
from pagemate.multiprocessing import BufferTooShort
from pagemate.multiprocessing.connection import Connection, Pipe, wait

#: The longest message that is in a packet.
SHORT = 64 << 10
SIZES = [0, 1, 1000, SHORT - 1, SHORT, SHORT + 1, 5_000_000]


def echo(pipe):
    while (message := pipe.recv()) is not None:
        pipe.send(message)


def echo_bytes(pipe):
    while (message := pipe.recv_bytes()) != b"end":
        pipe.send_bytes(message)


def test_objects(context, start):
    pipe, other = context.Pipe()
    child = start(context, echo, other)
    for size in SIZES:
        pipe.send({"n": size, "bytes": bytes(size)})
        assert pipe.recv() == {"n": size, "bytes": bytes(size)}
    pipe.send(None)
    ended(child)
    other.close()
    with pytest.raises(EOFError):
        pipe.recv()
    with pytest.raises(BrokenPipeError):
        pipe.send(1)


def test_bytes(context, start):
    pipe, other = context.Pipe()
    child = start(context, echo_bytes, other)
    for size in SIZES:
        message = random.Random(size).randbytes(size)
        pipe.send_bytes(message)
        assert pipe.recv_bytes(size) == message
        pipe.send_bytes(memoryview(message), size // 3, size // 2)
        target = bytearray(size + 7)
        assert pipe.recv_bytes_into(target, 7) == size // 2
        assert target[7 : 7 + size // 2] == message[size // 3 : size // 3 + size // 2]
    pipe.send_bytes(b"end")
    ended(child)


def test_boundaries():
    reader, writer = Pipe(duplex=False)
    messages = [b"", b"a", b"", bytes(SHORT + 1), b"b"]
    for message in messages:
        writer.send_bytes(message)
    for message in messages:
        assert reader.poll()
        assert reader.recv_bytes() == message
    assert not reader.poll() and not reader.poll(0.01) and not reader.poll(-1)


@pytest.mark.parametrize("size", [10, SHORT + 10])
def test_limits(size):
    reader, writer = Pipe(duplex=False)
    message = bytes(size)
    writer.send_bytes(message)
    target = bytearray(size - 1)
    with pytest.raises(BufferTooShort) as error:
        reader.recv_bytes_into(target)
    assert error.value.args == (message,) and target == bytes(size - 1)
    for offset in (-1, size):
        with pytest.raises(ValueError, match="offset"):
            reader.recv_bytes_into(target, offset)
    with pytest.raises(ValueError, match="negative"):
        reader.recv_bytes(-1)
    writer.send_bytes(message)
    with pytest.raises(OSError, match="bad message length"):
        reader.recv_bytes(size - 1)
    assert reader.closed
    first, second = Pipe()
    second.send_bytes(message)
    with pytest.raises(OSError, match="bad message length"):
        first.recv_bytes(size - 1)
    assert not first.readable and first.writable


def test_ends_that_do_not_fit():
    reader, writer = Pipe(duplex=False)
    assert (reader.readable, reader.writable) == (True, False)
    assert (writer.readable, writer.writable) == (False, True)
    with pytest.raises(OSError, match="read-only"):
        reader.send(1)
    for call in writer.recv, writer.recv_bytes, writer.poll:
        with pytest.raises(OSError, match="write-only"):
            call()
    reader.close()
    reader.close()
    for call in reader.recv, reader.poll, reader.fileno:
        with pytest.raises(OSError, match="handle is closed"):
            call()
    with pytest.raises(ValueError):
        Connection(-1)


def test_what_is_no_message():
    reader, writer = Pipe(duplex=False)
    for foreign in (b"x", bytes(16), bytes(100)):
        os.write(writer.fileno(), foreign)
        with pytest.raises(OSError, match="no message"):
            reader.recv()
    writer.send("after it")
    assert reader.recv() == "after it"


def frame(*numbers, size=64):
    """Returns a packet whose body is such a frame."""
    body = struct.pack(f"<{len(numbers)}Q", *numbers).ljust(size, b".")
    return struct.pack("<4sIQ", b"pgm1", 1, len(body)) + body


def test_what_is_no_frame():
    reader, writer = Pipe(duplex=False)
    good = frame(1, 2, 40, 24)
    os.write(writer.fileno(), good)
    with pytest.raises(pickle.UnpicklingError):  # its parts were found
        reader.recv()
    end = 2**64 - 1
    damaged = [(2, 2), (end, 2), (2**60 - 1, 2), (1, 33), (1, end)]
    for numbers in damaged + [(1, 2, 40, 25), (1, 2, end, 2), (1, 2, 2, end)]:
        os.write(writer.fileno(), frame(*numbers))
        with pytest.raises(OSError, match="no message"):
            reader.recv()
    for size in range(len(good)):
        os.write(writer.fileno(), good[:size] or b"?")
        with pytest.raises(OSError, match="no message"):
            reader.recv()
    with socket.socket(fileno=os.dup(writer.fileno())) as raw, open(os.devnull) as file:
        header = struct.pack("<4sIQ", b"pgm1", 2, 10)
        raw.send(header)  # without the memory
        socket.send_fds(raw, [header], [file.fileno()])
        memory = os.memfd_create("not sealed")
        os.write(memory, bytes(10))
        socket.send_fds(raw, [header], [memory])
        os.close(memory)
    for _ in range(3):
        with pytest.raises(OSError, match="no message"):
            reader.recv()


def test_very_long_messages_wait_for_their_receiver():
    reader, writer = Pipe(duplex=False)
    for message in (bytes(2_000_000), numpy.ones(1_000_000)):
        threads = [send(writer, message) for _ in range(3)]
        until(lambda: all(is_blocked(thread.native_id) for thread in threads))
        for _ in threads:
            assert len(reader.recv()) == len(message)
        for thread in threads:
            thread.join(LONG)
            assert not thread.is_alive()


def test_the_end_comes_after_what_was_sent():
    first, second = Pipe()
    second.send("unread")  # its loss must not hide what was sent the other way
    first.send(1)
    first.send(bytes(SHORT + 1))
    first.close()
    assert second.recv() == 1 and second.poll()
    assert second.recv() == bytes(SHORT + 1) and second.poll()
    for _ in range(2):
        with pytest.raises(EOFError):
            second.recv()
    for _ in range(2):
        with pytest.raises(BrokenPipeError):
            second.send(1)


def test_wait():
    pipes = [Pipe(duplex=False) for _ in range(3)]
    readers = [reader for reader, _ in pipes]
    assert wait(readers, 0) == [] and wait(readers, 0.01) == []
    pipes[1][1].send(bytes(SHORT + 1))
    pipes[2][1].close()
    ready = wait(readers)
    assert ready == readers[1:]


def scatter(queue, name, count):
    generator = random.Random(name)
    for n in range(count):
        size = generator.choice([0, 10, 3000, 70_000, 200_000])
        queue.put((name, n, bytes([name]) * size, numpy.full(size // 10, name)))


def gather(queue, results):
    seen = {}
    while (message := queue.get()) is not None:
        name, n, content, array = message
        assert content == bytes([name]) * len(content) and (array == name).all()
        assert n > seen.get(name, -1), "the messages of one writer are in order"
        seen[name] = n
        results.send((name, n))


def test_many_writers_and_readers(context, start):
    queue, (results, other) = context.SimpleQueue(), context.Pipe(duplex=False)
    readers = [start(context, gather, queue, other) for _ in range(2)]
    writers = [start(context, scatter, queue, name, 100) for name in range(3)]
    got = [results.recv() for _ in range(300)]
    assert sorted(got) == [(name, n) for name in range(3) for n in range(100)]
    for writer in writers:
        ended(writer)
    for _ in readers:
        queue.put(None)
    for reader in readers:
        ended(reader)
    assert queue.empty()


def test_simple_queue():
    queue = multiprocessing.SimpleQueue()
    queue.put(None)
    assert not queue.empty() and queue.get() is None and queue.empty()
    with pytest.raises(ZeroDivisionError):
        queue.put(Unpicklable())
    queue.put(lambda_free := "still usable")
    assert queue.get() == lambda_free
    queue.close()
    queue.close()
    for call in queue.get, queue.empty, lambda: queue.put(1):
        with pytest.raises(OSError, match="handle is closed"):
            call()


class Unpicklable:
    def __reduce__(self):
        return 1 // 0
