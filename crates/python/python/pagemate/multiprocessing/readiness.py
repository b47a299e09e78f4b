"""Waiting for queues in event loops, which must not block.

One thread of the process waits for all queues that somebody waits for in this way. It is a daemon,
and begins when it is needed first. A queue that nobody waits for costs it nothing.

Nothing is taken from a queue before the coroutine that waits for it runs again. So a coroutine that
is cancelled loses no message; the next one that waits is woken in its place.
"""

import asyncio
import collections
import itertools
import os
import threading
import weakref
from queue import Empty, Full

from .. import _pagemate


class _Reactor:
    """The thread. It calls a function once when a queue is ready."""

    def __init__(self):
        self._watcher, self._tokens, self._calls = _pagemate.Watcher(), itertools.count(), {}
        threading.Thread(target=self._run, name="pagemate", daemon=True).start()

    def watch(self, queue, writable, call):
        """Has ``call`` called once there is a message, or room. Returns a token."""
        token = next(self._tokens)
        self._calls[token] = call
        self._watcher.add(token, queue, writable)
        return token

    def forget(self, token):
        """Ends a watch, unless its function is being called."""
        if self._calls.pop(token, None) is not None:
            self._watcher.remove(token)

    def _run(self):
        while True:
            for token in self._watcher.wait():
                call = self._calls.pop(token, None)
                if call is not None:
                    call()


_lock, _reactor = threading.Lock(), None


def _get_reactor():
    global _reactor
    with _lock:
        if _reactor is None:
            _reactor = _Reactor()
        return _reactor


class Line:
    """The coroutines that wait for messages, or for room, in one queue. The first is woken first."""

    def __init__(self, queue, writable):
        self._queue, self._writable = weakref.ref(queue), writable
        self._lock, self._waiting, self._token = threading.Lock(), collections.deque(), None

    async def wait(self):
        """Returns when it is time to try again."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        entry = (loop, future)
        with self._lock:
            self._waiting.append(entry)
            self._arm()
        try:
            await future
        finally:
            with self._lock:
                if entry in self._waiting:
                    self._waiting.remove(entry)
                self._arm()

    def _arm(self):
        if self._waiting and self._token is None:
            self._token = _get_reactor().watch(self._queue(), self._writable, self._wake)
        elif not self._waiting and self._token is not None:
            _get_reactor().forget(self._token)
            self._token = None

    def _wake(self):
        with self._lock:
            self._token = None
            queue = self._queue()
            count = 1 if self._writable or queue is None else max(queue.qsize(), 1)
            woken = [self._waiting.popleft() for _ in range(min(count, len(self._waiting)))]
        for loop, future in woken:
            try:
                loop.call_soon_threadsafe(_finish, future)
            except RuntimeError:  # the loop is closed
                with self._lock:
                    self._arm()


def _finish(future):
    if not future.done():
        future.set_result(None)


class Readiness:
    """A descriptor that is readable while there may be a message in a queue."""

    def __init__(self, queue):
        self.pid, self._queue, self._lock = os.getpid(), weakref.ref(queue), threading.Lock()
        self._token, self._reactor = None, _get_reactor()
        self.descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.begin()

    def __del__(self):
        if hasattr(self, "descriptor"):
            if self._token is not None and self.pid == os.getpid():
                self._reactor.forget(self._token)
            os.close(self.descriptor)

    def begin(self):
        """Makes it not readable, until there is a message."""
        with self._lock:
            try:
                os.eventfd_read(self.descriptor)
            except BlockingIOError:
                pass
            if self._token is None:
                wake = weakref.WeakMethod(self._wake)
                self._token = self._reactor.watch(self._queue(), False, lambda: wake() and wake()())

    def _wake(self):
        with self._lock:
            self._token = None
            os.eventfd_write(self.descriptor, 1)


class Awaitable:
    """What event loops need of a queue: a base of its class."""

    async def aget(self):
        """Receives an object. While there is none, other coroutines run."""
        while True:
            try:
                return self.get_nowait()
            except Empty:
                await self._helper("get", lambda: Line(self, False)).wait()

    async def aput(self, obj):
        """Sends ``obj``. While there is no room, other coroutines run."""
        while True:
            try:
                return self.put_nowait(obj)
            except Full:
                await self._helper("put", lambda: Line(self, True)).wait()

    def fileno(self):
        """Returns a descriptor that is readable while there may be a message.

        For event loops. It is not readable any more once ``get`` has found the queue empty, or has
        made it so. A message may go to another process before it is received here.
        """
        readiness = self._helper("file", lambda: Readiness(self))
        self._tell_when_empty()
        return readiness.descriptor

    def _is_empty_now(self):
        readiness = self._helper("file", lambda: None)
        if readiness is not None:
            readiness.begin()

    def _helper(self, kind, make):
        # Those of the process that has forked this one are not used.
        helpers, key = self.__dict__.setdefault("_helpers", {}), (os.getpid(), kind)
        helper = helpers.get(key) or make()
        return helper and helpers.setdefault(key, helper)


def _begin():
    # A forked child has neither the thread nor those who wait.
    global _lock, _reactor
    _lock, _reactor = threading.Lock(), None


os.register_at_fork(after_in_child=_begin)
