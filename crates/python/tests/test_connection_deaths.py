"""Processes that are killed at a pipe or a simple queue hold nothing up, and cut no message."""

import os
import random
import signal
import subprocess
import sys
import threading
import time

import numpy
import pytest
from conftest import LONG, ended, is_blocked, until
from test_deaths import PROMISE, TRIES

#: Sizes of messages: in a packet, and in memory of their own.
SIZES = [10, 5000, 100_000, 3_000_000]


def scatter(writer, size):
    n = 0
    while True:
        writer.send((n, bytes([n % 256]) * size, numpy.full(size, n % 256, dtype="u1")))
        n += 1


def check(message, n, size):
    assert message[0] == n
    assert message[1] == bytes([n % 256]) * size and (message[2] == n % 256).all()


@pytest.mark.parametrize("size", SIZES)
def test_killed_writer(context, start, size):
    for received in (0, 1, 7):
        reader, writer = context.Pipe(duplex=False)
        victim = start(context, scatter, writer, size)
        writer.close()
        for n in range(received):
            check(reader.recv(), n, size)
        victim.kill()
        rest = received
        with pytest.raises(EOFError):  # and not a part of a message
            while True:
                check(reader.recv(), rest, size)
                rest += 1


def test_killed_writers_of_a_queue(context, start):
    queue = context.SimpleQueue()
    generator = random.Random(1)
    for _ in range(10):
        size = generator.choice(SIZES)
        victim = start(context, scatter, queue._writer, size)
        received = generator.randrange(10)
        for n in range(received):
            check(queue.get(), n, size)
        victim.kill()
        victim.join()
        while not queue.empty():
            check(queue.get(), received, size)
            received += 1


def forward(queue, results):
    while (message := queue.get()) is not None:
        results.send(message)


@pytest.mark.parametrize("size", [10, 100_000])
def test_killed_readers(context, start, size):
    queue, (results, other) = context.SimpleQueue(), context.Pipe(duplex=False)
    survivor = start(context, forward, queue, other)
    for _ in range(3):
        victim = start(context, forward, queue, other)
        until(lambda: is_blocked(victim.pid))
        victim.kill()
        victim.join()
        for n in range(20):
            queue.put((n, bytes(size)))
        assert [results.recv()[0] for _ in range(20)] == list(range(20))
    queue.put(None)
    ended(survivor)


def test_readers_killed_at_any_moment(context, start):
    queue, (results, other) = context.SimpleQueue(), context.Pipe(duplex=False)
    generator, sent, seen = random.Random(2), 0, []
    survivor = start(context, forward, queue, other)
    for _ in range(10):
        victim = start(context, forward, queue, other)
        for _ in range(generator.randrange(50)):
            queue.put((sent, bytes(generator.choice(SIZES[:3]))))
            sent += 1
            while results.poll():
                seen.append(results.recv()[0])
        victim.kill()
        victim.join()
    queue.put(None)
    ended(survivor)
    while results.poll():
        seen.append(results.recv()[0])
    assert len(seen) == len(set(seen)) and sent - len(seen) <= 10, "at most what a victim had"


@pytest.mark.parametrize("size", [10, 100_000, 5_000_000])
def test_a_writer_is_told_when_its_reader_is_killed(context, start, size):
    for _ in range(3):
        reader, writer = context.Pipe(duplex=False)
        victim = start(context, keep, reader)
        reader.close()
        killer = start(context, kill_when_blocked, os.getpid(), victim.pid)
        with pytest.raises(BrokenPipeError):
            while True:
                writer.send(bytes(size))
        ended(killer)


def keep(reader):
    signal.pause()


def kill_when_blocked(pid, victim):
    until(lambda: is_blocked(pid))
    os.kill(victim, signal.SIGKILL)


def send_and_wait(way):
    way.send(numpy.arange(100_000))
    signal.pause()


def send_and_be_killed(way):
    threading.Thread(target=way.send, args=(numpy.arange(1_000_000),), daemon=True).start()
    signal.pause()


@pytest.mark.parametrize("send, size", [(send_and_wait, 100_000), (send_and_be_killed, 1_000_000)])
def test_what_was_sent_outlives_its_sender(context, start, send, size):
    way, other = context.Pipe()
    victim = start(context, send, other)
    other.close()
    assert way.poll(LONG)
    victim.kill()
    victim.join()
    assert (way.recv() == numpy.arange(size)).all()
    with pytest.raises(EOFError):
        way.recv()


PROGRAM = """
import signal, sys, time
import pagemate.multiprocessing as mp
signal.signal(signal.SIGINT, signal.default_int_handler)  # the tests may run where it is ignored
first, second = mp.Pipe()
queue, full = mp.SimpleQueue(), mp.SimpleQueue()
print("ready", flush=True)
try:
    {call}
except KeyboardInterrupt:
    print(time.monotonic(), flush=True)
second.send_bytes(b"still usable")
assert first.recv_bytes() == b"still usable"
"""


@pytest.mark.parametrize(
    "call",
    [
        "first.recv()",
        "first.recv_bytes()",
        "first.poll(None)",
        "queue.get()",
        "while True: full.put(1)",
        "while True: full.put(bytes(1_000_000))",
        "full.put(bytes(2_000_000))",
        "mp.connection.wait([first, queue._reader])",
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


HANDLERS = """
import os, signal, threading
import pagemate.multiprocessing as mp
first, second = mp.Pipe()
calls = []
def handler(*_):
    calls.append(None)
    first.send_bytes(b"by a handler")  # and a handler may use pipes
    assert second.recv_bytes() == b"by a handler"
    if len(calls) == 5:
        reader_end.send("done")
signal.signal(signal.SIGUSR1, handler)
reader, reader_end = mp.Pipe(duplex=False)
def send():
    for n in range(5):
        before = len(calls)
        os.kill(os.getpid(), signal.SIGUSR1)
        while len(calls) == before:
            pass
sender = threading.Thread(target=send)
sender.start()
print(reader.recv())
sender.join()
"""


def test_handlers_run_while_a_receiver_waits():
    program = [sys.executable, "-c", HANDLERS]
    assert subprocess.run(program, timeout=LONG, capture_output=True, text=True).stdout == "done\n"
