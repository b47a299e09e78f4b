"""Contexts: those of ``multiprocessing`` for processes, with pagemate's objects.

Processes are started by the standard library. So are its connections, pools and managers, with a
context of the standard library, because they need its queues.
"""

import multiprocessing
import os
from multiprocessing import context

from .. import _pagemate

__all__ = ["get_context"]


class _EndsWithParent:
    """A process which ends with its parent if it is a daemon, also if that is killed."""

    def _bootstrap(self, parent_sentinel=None):
        if self.daemon:
            self._watch_parent(parent_sentinel)
        return super()._bootstrap(parent_sentinel)

    def _watch_parent(self, sentinel):
        watched = [] if sentinel is None else [sentinel]
        try:
            watched.append(os.pidfd_open(self._parent_pid))
        except OSError:
            pass  # an old kernel, or the parent is dead already
        # A sibling that was forked later has a copy of the sentinel's other end. So that end alone
        # does not say when the parent ends.
        method = self._start_method or multiprocessing.get_start_method()
        if method != "forkserver" and os.getppid() != self._parent_pid:
            os._exit(1)
        _pagemate.end_when_readable(watched)
        for descriptor in watched[0 if sentinel is None else 1 :]:
            os.close(descriptor)


class _Objects:
    """What a context creates in shared memory."""

    def Lock(self):
        """Returns a lock that any process or thread may release."""
        from .synchronize import Lock

        return Lock(ctx=self)

    def RLock(self):
        """Returns a lock that its holder may acquire again."""
        from .synchronize import RLock

        return RLock(ctx=self)

    def Condition(self, lock=None):
        """Returns a condition variable."""
        from .synchronize import Condition

        return Condition(lock, ctx=self)

    def Semaphore(self, value=1):
        """Returns a semaphore."""
        from .synchronize import Semaphore

        return Semaphore(value, ctx=self)

    def BoundedSemaphore(self, value=1):
        """Returns a semaphore whose permits come back when their holder dies."""
        from .synchronize import BoundedSemaphore

        return BoundedSemaphore(value, ctx=self)

    def Event(self):
        """Returns a flag to wait for."""
        from .synchronize import Event

        return Event(ctx=self)

    def Barrier(self, parties, action=None, timeout=None):
        """Returns a barrier."""
        from .synchronize import Barrier

        return Barrier(parties, action, timeout, ctx=self)

    def Queue(self, maxsize=0):
        """Returns a queue of objects."""
        from .queues import Queue

        return Queue(maxsize, ctx=self)

    def JoinableQueue(self, maxsize=0):
        """Returns a queue that counts the messages that are not done."""
        from .queues import JoinableQueue

        return JoinableQueue(maxsize, ctx=self)

    def SimpleQueue(self):
        """Returns a queue that is a pipe."""
        from .queues import SimpleQueue

        return SimpleQueue(ctx=self)

    def Pipe(self, duplex=True):
        """Returns both ends of a pipe."""
        from .connection import Pipe

        return Pipe(duplex)

    def Value(self, typecode_or_type, *args, lock=True):
        """Returns a shared value."""
        from .sharedctypes import Value

        return Value(typecode_or_type, *args, lock=lock, ctx=self)

    def Array(self, typecode_or_type, size_or_initializer, *, lock=True):
        """Returns a shared array."""
        from .sharedctypes import Array

        return Array(typecode_or_type, size_or_initializer, lock=lock, ctx=self)

    def RawValue(self, typecode_or_type, *args):
        """Returns a ctypes object in shared memory."""
        from .sharedctypes import RawValue

        return RawValue(typecode_or_type, *args)

    def RawArray(self, typecode_or_type, size_or_initializer):
        """Returns a ctypes array in shared memory."""
        from .sharedctypes import RawArray

        return RawArray(typecode_or_type, size_or_initializer)

    def _standard(self):
        """Returns the standard library's context with the same start method."""
        return multiprocessing.get_context(self.get_start_method())

    def Pool(self, processes=None, initializer=None, initargs=(), maxtasksperchild=None):
        """Returns a pool of worker processes."""
        from .pool import Pool

        return Pool(processes, initializer, initargs, maxtasksperchild, context=self.get_context())

    def Manager(self):
        """Returns a started manager."""
        from .managers import SyncManager

        manager = SyncManager(ctx=self.get_context())
        manager.start()
        return manager

    def get_context(self, method=None):
        """Returns the context of a start method."""
        if method is None:
            return self
        try:
            return _CONTEXTS[method]
        except KeyError:
            raise ValueError(f"cannot find context for {method!r}: there are {[*_CONTEXTS]}") from None


class SpawnProcess(_EndsWithParent, context.SpawnProcess):
    """A new interpreter."""


class ForkProcess(_EndsWithParent, context.ForkProcess):
    """A copy of this process."""


class ForkServerProcess(_EndsWithParent, context.ForkServerProcess):
    """A copy of a server process."""


class SpawnContext(_Objects, context.SpawnContext):
    """Children are new interpreters."""

    Process = SpawnProcess


class ForkContext(_Objects, context.ForkContext):
    """Children are copies of this process."""

    Process = ForkProcess


class ForkServerContext(_Objects, context.ForkServerContext):
    """Children are copies of a server process."""

    Process = ForkServerProcess


_CONTEXTS = {"fork": ForkContext(), "spawn": SpawnContext(), "forkserver": ForkServerContext()}


class Process(_EndsWithParent, context.Process):
    """A process of the start method that is set."""


class DefaultContext(_Objects, context.BaseContext):
    """The context of the start method that is set for ``multiprocessing``, here or there."""

    Process = Process

    def get_context(self, method=None):
        """Returns the context of a start method, or of the one that is set."""
        if method is None:
            method = multiprocessing.get_start_method()
        return super().get_context(method)

    def set_start_method(self, method, force=False):
        """Sets the start method, once."""
        multiprocessing.set_start_method(method, force)

    def get_start_method(self, allow_none=False):
        """Returns the start method that is set."""
        return multiprocessing.get_start_method(allow_none)

    def get_all_start_methods(self):
        """Returns the start methods."""
        return multiprocessing.get_all_start_methods()


_default_context = DefaultContext()


def get_context(method=None):
    """Returns pagemate's context of a start method, for ``mp_context=`` and the like."""
    return _default_context.get_context(method)
