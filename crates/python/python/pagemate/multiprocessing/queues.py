"""Queues, as in ``multiprocessing.queues``, without feeder threads.

When ``put`` returns, the message is in shared memory: everybody sees it, it cannot change any more,
and it outlives its producer. Therefore a queue has room for a number of messages that is known when
it is created, and ``put`` waits while there is no room. The bytes of the messages are not bounded.
"""

import sys
import traceback
import types

from .. import _pagemate
from .connection import Pipe
from .handle import Handle
from .readiness import Awaitable
from .synchronize import Condition, Semaphore

__all__ = ["JoinableQueue", "Queue", "SimpleQueue"]

#: Messages in a queue without ``maxsize``.
CAPACITY = 16384


class Queue(Awaitable, Handle, _pagemate.Queue):
    """A queue of objects, which are pickled.

    ``maxsize`` is the number of messages, and 16384 if it is 0 or less. Messages may have any length.
    """

    __class_getitem__ = classmethod(types.GenericAlias)

    def __new__(cls, maxsize=0, *, ctx=None):
        return super().__new__(cls, maxsize if maxsize > 0 else CAPACITY)

    def join_thread(self):
        """Returns at once, since there is no thread: ``put`` has done everything."""
        assert self._closed, f"Queue {self!r} not closed"

    def cancel_join_thread(self):
        """Does nothing, since there is no thread."""

    @staticmethod
    def _on_queue_feeder_error(error, obj):
        """Called if ``obj`` cannot be pickled. Prints the traceback, as multiprocessing does."""
        traceback.print_exception(type(error), error, error.__traceback__, file=sys.stderr)


class JoinableQueue(Queue):
    """A queue that counts the messages that are not done."""

    def __new__(cls, maxsize=0, *, ctx=None):
        self = super().__new__(cls, maxsize, ctx=ctx)
        self._unfinished, self._condition = Semaphore(0, ctx=ctx), Condition(ctx=ctx)
        return self

    def _state(self):
        return {"_unfinished": self._unfinished, "_condition": self._condition}

    def put(self, obj, block=True, timeout=None):
        """Sends ``obj``. Raises ``queue.Full`` if there was no room in time."""
        # Counted first, so that a consumer that is quick does not call task_done too often.
        self._unfinished.release()
        sent = False
        try:
            sent = self._put(obj, block, timeout)
        finally:
            if not sent:
                self.task_done()

    def task_done(self):
        """Says that a message which was received is done."""
        with self._condition:
            if not self._unfinished.acquire(False):
                raise ValueError("task_done() called too many times")
            if self._unfinished.get_value() == 0:
                self._condition.notify_all()

    def join(self):
        """Blocks until all messages that were put are done."""
        with self._condition:
            self._condition.wait_for(lambda: self._unfinished.get_value() == 0)


class SimpleQueue:
    """A pipe that any number of processes write and read. It has no locks, and needs none.

    ``put`` waits for readers when some hundred messages, or a few long ones, are in the pipe.
    """

    __class_getitem__ = classmethod(types.GenericAlias)

    def __init__(self, *, ctx=None):
        self._reader, self._writer = Pipe(duplex=False)

    def __reduce__(self):
        return _rebuild_simple, (type(self), self._reader, self._writer)

    def put(self, obj):
        """Sends ``obj``."""
        self._writer.send(obj)

    def get(self):
        """Receives an object."""
        return self._reader.recv()

    def empty(self):
        """Returns whether there is nothing to receive."""
        return not self._reader.poll()

    def close(self):
        """Ends the use of the queue by this process. Messages stay."""
        self._reader.close()
        self._writer.close()


def _rebuild_simple(cls, reader, writer):
    queue = cls.__new__(cls)
    queue._reader, queue._writer = reader, writer
    return queue
