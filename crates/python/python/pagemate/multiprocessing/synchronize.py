"""Locks and what processes wait for each other with, as in ``multiprocessing.synchronize``.

A process that dies holds nothing for ever: its locks become free, its permits of a
``BoundedSemaphore`` come back, and a ``Condition`` or ``Barrier`` does not wait for it.
"""

import threading
import time
from multiprocessing import process

from .. import _pagemate
from .handle import Handle

__all__ = ["Barrier", "BoundedSemaphore", "Condition", "Event", "Lock", "RLock", "Semaphore"]


def _own_name():
    """Returns how ``repr`` names this thread."""
    name = process.current_process().name
    thread = threading.current_thread().name
    return name if thread == "MainThread" else f"{name}|{thread}"


class Lock(Handle, _pagemate.Lock):
    """A lock that any process or thread may release."""

    def __new__(cls, *, ctx=None):
        return super().__new__(cls)

    def __repr__(self):
        if self._is_mine():
            owner = _own_name()
        elif not self.locked():
            owner = "None"
        elif self._is_of_this_process():
            owner = "SomeOtherThread"
        else:
            owner = "SomeOtherProcess"
        return f"<{type(self).__name__}(owner={owner})>"


class RLock(Handle, _pagemate.RLock):
    """A lock that the thread which holds it may acquire again."""

    def __new__(cls, *, ctx=None):
        return super().__new__(cls)

    def __repr__(self):
        if self._is_mine():
            owner = _own_name()
        else:
            owner = "SomeOtherProcess" if self.locked() else "None"
        return f"<{type(self).__name__}(owner={owner})>"


class _Counting:
    """What the standard library's queues ask of a semaphore that their context made.

    ``concurrent.futures`` makes such a queue with the context that it is given.
    """

    @property
    def _semlock(self):
        return self

    def _is_zero(self):
        return self.get_value() == 0

    def _get_value(self):
        return self.get_value()


class Semaphore(_Counting, Handle, _pagemate.Semaphore):
    """A count of permits without owners."""

    def __new__(cls, value=1, *, ctx=None):
        return super().__new__(cls, value)

    def __repr__(self):
        return f"<{type(self).__name__}(value={self.get_value()})>"


class BoundedSemaphore(_Counting, Handle, _pagemate.BoundedSemaphore):
    """At most ``value`` permits, which come back when their holder dies."""

    def __new__(cls, value=1, *, ctx=None):
        return super().__new__(cls, value)

    def __repr__(self):
        return f"<{type(self).__name__}(value={self.get_value()}, maxvalue={self._maxvalue()})>"


class Condition(Handle, _pagemate.Condition):
    """A condition variable. ``lock`` is a ``Lock`` or an ``RLock`` of this package."""

    def __new__(cls, lock=None, *, ctx=None):
        if lock is not None and not isinstance(lock, (_pagemate.Lock, _pagemate.RLock)):
            raise TypeError(f"the lock of a Condition is a pagemate Lock or RLock, not {lock!r}")
        self = super().__new__(cls)
        self._lock = RLock(ctx=ctx) if lock is None else lock
        self._bind()
        return self

    def _bind(self):
        self.acquire, self.release = self._lock.acquire, self._lock.release

    def _state(self):
        return {"_lock": self._lock}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._bind()

    def __enter__(self):
        return self._lock.__enter__()

    def __exit__(self, *args):
        return self._lock.__exit__(*args)

    def wait(self, timeout=None):
        """Blocks until notified. Returns False if that took longer than the timeout."""
        return self._wait(self._lock, timeout)

    def wait_for(self, predicate, timeout=None):
        """Blocks until ``predicate()`` is true. Returns its last value."""
        result = predicate()
        end = None if timeout is None else time.monotonic() + timeout
        while not result:
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                break
            self.wait(left)
            result = predicate()
        return result

    def notify(self, n=1):
        """Wakes at most ``n`` waiters."""
        self._notify(self._lock, n)

    def notify_all(self):
        """Wakes all waiters."""
        self._notify(self._lock, None)

    def __repr__(self):
        return f"<{type(self).__name__}({self._lock!r}, {self._waiting()})>"


class Event(Handle, _pagemate.Event):
    """A flag that processes set, clear and wait for."""

    def __new__(cls, *, ctx=None):
        return super().__new__(cls)

    def __repr__(self):
        state = "set" if self.is_set() else "unset"
        return f"<{type(self).__qualname__} at {id(self):#x} {state}>"


class Barrier(Handle, _pagemate.Barrier):
    """A barrier for ``parties`` processes or threads."""

    def __new__(cls, parties, action=None, timeout=None, *, ctx=None):
        self = super().__new__(cls, parties)
        self._action, self._timeout = action, timeout
        return self

    def _state(self):
        return {"_action": self._action, "_timeout": self._timeout}

    def wait(self, timeout=None):
        """Blocks until all parties have arrived. Returns the index of this one."""
        index = self._wait(self._action, self._timeout if timeout is None else timeout)
        if index is None:
            raise threading.BrokenBarrierError
        return index

    def __repr__(self):
        if self.broken:
            return f"<{type(self).__qualname__} at {id(self):#x}: broken>"
        waiting = f"waiters={self.n_waiting}/{self.parties}"
        return f"<{type(self).__qualname__} at {id(self):#x}: {waiting}>"
