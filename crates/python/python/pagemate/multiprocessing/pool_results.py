"""Results of a ``Pool``: what ``apply_async``, ``map_async`` and ``imap`` return.

The pool's result thread calls ``arrive`` when something has arrived. A result keeps neither the
pool nor arguments alive.
"""

import collections
import sys
import threading
import types
from multiprocessing import TimeoutError

from .pool_worker import Ended, loads, lost, terminated, unpack_error

__all__ = ["ApplyResult", "AsyncResult", "IMapIterator", "IMapUnorderedIterator", "MapResult"]


class _Job:
    """What the pool passes results to."""

    #: The exception that ended the pool before the tasks were done.
    reason = None

    def _error(self, number, error):
        """Returns the exception of a task."""
        if isinstance(error, Ended):
            return self.reason or terminated()
        return self.errors.get(number, error)


class ApplyResult(_Job):
    """The result of one task."""

    def __init__(self, batch, callback, error_callback):
        self._batch = batch
        self._event = threading.Event()
        self._callback, self._error_callback = callback, error_callback
        self.errors = {}  # of tasks that could not be pickled
        self._value, self._success = [None], True

    def ready(self):
        """Returns whether the result is there."""
        return self._event.is_set()

    def successful(self):
        """Returns whether the task returned a value. Raises ``ValueError`` if it is not ready."""
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return self._success

    def wait(self, timeout=None):
        """Blocks until the result is there, or until the timeout."""
        self._event.wait(timeout)

    def get(self, timeout=None):
        """Returns the value, or raises the exception of the task.

        Raises ``multiprocessing.TimeoutError`` if there was none in time, and ``WorkerDied`` if the
        task's worker died.
        """
        self.wait(timeout)
        if not self.ready():
            raise TimeoutError
        if self._success:
            return self._value
        raise self._value

    def arrive(self):
        """Takes what has arrived. Returns whether that was all."""
        batch, self._batch = self._batch, None
        values = self._value
        failures = batch.fill(values, loads, unpack_error, lost)
        if failures:
            first, error = min(failures, key=lambda failure: failure[0])
            self._finish(False, self._error(first, error))
        else:
            self._finish(True, self._result(values))
        return True

    def _result(self, values):
        return values[0]

    def _finish(self, success, value):
        self._success, self._value = success, value
        callback = self._callback if success else self._error_callback
        self.errors = self._callback = self._error_callback = None
        try:
            if callback:
                callback(value)
        except BaseException:
            threading.excepthook(threading.ExceptHookArgs([*sys.exc_info(), threading.current_thread()]))
        finally:
            self._event.set()

    def fail(self, error):
        """Ends it without a result."""
        if not self.ready():
            self._batch = None
            self._finish(False, error)

    __class_getitem__ = classmethod(types.GenericAlias)


AsyncResult = ApplyResult


class MapResult(ApplyResult):
    """The results of all tasks of a map, in the order of its input."""

    def __init__(self, batch, length, callback, error_callback):
        super().__init__(batch, callback, error_callback)
        self._value = [None] * length

    def _result(self, values):
        return values

    def finish_empty(self):
        """Ends it without tasks, and without a callback."""
        self._batch = self.errors = self._callback = self._error_callback = None
        self._event.set()


class Stream(_Job):
    """The results of an ``imap`` that have arrived, and those that have been consumed.

    The pool has this, the caller an iterator of it. If the iterator is dropped, the tasks are run
    all the same.
    """

    def __init__(self, batch, ordered, window):
        self.condition = threading.Condition(threading.Lock())
        self.batch, self.ordered = batch, ordered
        self.errors = {}  # of tasks that could not be pickled
        self.items = collections.deque()
        self.early = {}  # parts that came before their turn, by their first task
        self.arrived = self.consumed = 0
        self.length = None
        #: The error of the input, which comes after all items.
        self.input_error = None
        self.window = window
        self.has_room = threading.Condition(self.condition._lock)
        self.is_abandoned = False
        #: Whether the look-ahead is limited by the results that have arrived, consumed or not.
        self.is_lifted = False

    def arrive(self):
        """Takes what has arrived. Returns whether that was all."""
        for first, values, failures in self.batch.take(loads, unpack_error, lost):
            items = [(True, value) for value in values]
            for number, error in failures:
                items[number - first] = False, self._error(number, error)
                self.errors.pop(number, None)
            with self.condition:
                self._add(first, items)
                self.condition.notify()
                if self.is_lifted:
                    self.has_room.notify()
        return self.batch.is_complete

    def _add(self, first, items):
        if self.is_abandoned or not self.ordered:
            self.arrived += len(items)
            if not self.is_abandoned:
                self.items.extend(items)
            return
        self.early[first] = items
        while (items := self.early.pop(self.arrived, None)) is not None:
            self.items.extend(items)
            self.arrived += len(items)

    def end(self, length, error):
        """Says how long the input was, and which exception ended it."""
        with self.condition:
            if self.length is None:
                self.length, self.input_error = length, error
            self.condition.notify_all()

    def fail(self, error):
        """Ends it before all results have arrived."""
        with self.condition:
            self.length, self.input_error = self.arrived, error
            self.condition.notify_all()

    def next(self, timeout):
        with self.condition:
            if not self.items and not self._is_over():
                self.condition.wait_for(lambda: self.items or self._is_over(), timeout)
            if self.items:
                success, value = self.items.popleft()
                self.consumed += 1
                self.has_room.notify()
            elif not self._is_over():
                raise TimeoutError
            elif self.input_error is None:
                raise StopIteration
            else:
                success, value, self.input_error = False, self.input_error, None
        if success:
            return value
        raise value

    def _is_over(self):
        return self.length is not None and self.arrived >= self.length

    def abandon(self):
        """Drops all results, also those that have not arrived."""
        with self.condition:
            self.is_abandoned = self.is_lifted = True
            self.items.clear()
            self.arrived += sum(map(len, self.early.values()))
            self.early.clear()
            self.has_room.notify()

    def lift(self):
        """Limits the look-ahead by the results that have arrived, since nobody may consume them."""
        with self.condition:
            self.is_lifted = True
            self.has_room.notify()

    def wait_for_room(self, taken, is_over):
        """Blocks until there is room in the look-ahead. Returns how many tasks there is room for.

        Returns 0 if ``is_over()`` meanwhile; whoever makes that true calls ``lift``.
        """
        with self.condition:
            while not is_over():
                passed = self.arrived if self.is_lifted else self.consumed
                room = passed + self.window - taken
                if room > 0:
                    return room
                self.has_room.wait()
        return 0


class IMapIterator:
    """The results of an ``imap``, in the order of its input.

    A task that failed raises its exception here, and the iterator goes on.
    """

    def __init__(self, stream):
        self._stream = stream

    def __iter__(self):
        return self

    def next(self, timeout=None):
        """Returns the next result.

        Raises ``multiprocessing.TimeoutError`` if there was none in time.
        """
        return self._stream.next(timeout)

    __next__ = next

    def __del__(self):
        self._stream.abandon()


class IMapUnorderedIterator(IMapIterator):
    """The results of an ``imap_unordered``, in the order in which they arrive."""
