"""Fixtures: a context for each start method, and children that are always ended."""

import gc
import os
import threading
import time

import pagemate
import pytest

METHODS = ["spawn", "fork", "forkserver"]
#: For what must happen; far more than it takes.
LONG = 120


@pytest.fixture(autouse=True)
def collect():
    """Frees what exceptions of earlier tests refer to, so that nobody counts it."""
    gc.collect()


@pytest.fixture(params=METHODS)
def context(request):
    return pagemate.get_context(request.param)


@pytest.fixture
def start():
    """Starts children, and kills those that are left."""
    children = []

    def start(context, target, *args):
        child = context.Process(target=target, args=args)
        child.start()
        children.append(child)
        return child

    yield start
    for child in children:
        child.kill()
        child.join()


def until(condition):
    """Waits for something that no object reports."""
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.001)


#: The system calls in which a process sleeps: futex, and poll or ppoll.
BLOCKING = {"x86_64": ["202", "7", "271"], "aarch64": ["98", "73"]}[os.uname().machine]


def is_blocked(pid):
    """Returns whether the main thread of a process sleeps in a wait of pagemate."""
    with open(f"/proc/{pid}/syscall") as file:
        return file.read().split()[0] in BLOCKING


def ended(child):
    """Joins a child that must end by itself."""
    child.join(LONG)
    assert child.exitcode == 0, child


def send(pipe, message):
    """Sends a message that may be so long that it must be received first."""
    thread = threading.Thread(target=pipe.send, args=(message,))
    thread.start()
    return thread
