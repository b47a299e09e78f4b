"""Fixtures: a context for each start method, and children that are always ended."""

import os
import time

import pagemate
import pytest

METHODS = ["spawn", "fork", "forkserver"]
#: For what must happen; far more than it takes.
LONG = 30


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


def is_blocked(pid):
    """Returns whether the main thread of a process sleeps in a futex."""
    with open(f"/proc/{pid}/syscall") as file:
        number = file.read().split()[0]
    return number == {"x86_64": "202", "aarch64": "98"}[os.uname().machine]


def ended(child):
    """Joins a child that must end by itself."""
    child.join(LONG)
    assert child.exitcode == 0, child
