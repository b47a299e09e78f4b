"""Proxies of managed objects: handles to objects in the memory of a manager.

A proxy has the methods, results and exceptions of the proxies of ``multiprocessing.managers``, and is
an instance of the class of that name there. But nothing is sent: its methods work on the memory.

Each class says how its object is made in a slot of the memory, and how it is emptied for the next
one that gets the slot:

- ``_native(native, slot, parameters, create)`` creates or opens the object;
- ``_empty(object, parameters)`` empties it, and returns whether the slot can be used again.
"""

import array
import threading
import time
import types
from multiprocessing import managers as _standard
from queue import Empty, Full

from .. import _pagemate
from . import queues
from .pool_worker import loads

__all__ = [
    "ArrayProxy", "BarrierProxy", "BoundedSemaphoreProxy", "ConditionProxy", "DictProxy",
    "EventProxy", "ListProxy", "LockProxy", "NamespaceProxy", "QueueProxy", "RLockProxy",
    "SemaphoreProxy", "ValueProxy",
]  # fmt: skip


class Proxy:
    """What all proxies have in common."""

    _typeid = None

    @classmethod
    def _open(cls, hold, slot, parameters):
        self = cls._native(hold.memory.native, slot, parameters, False)
        object.__setattr__(self, "_hold", hold)
        object.__setattr__(self, "_parameters", parameters)
        return self

    @classmethod
    def _empty(cls, native, parameters):
        return True

    @classmethod
    def _links_of(cls, native, slot, parameters):
        """Returns the numbers of the objects whose proxies the object contains."""
        return ()

    @staticmethod
    def _sizes(parameters):
        """Returns those parameters on which the memory of the object depends."""
        return parameters

    def __reduce__(self):
        return self._hold.memory.reduce(self._hold.number)

    def __reduce_ex__(self, protocol):
        return self.__reduce__()

    def __deepcopy__(self, memo):
        return self._getvalue()

    @property
    def _id(self):
        return str(self._hold.number)

    @property
    def _token(self):
        return _standard.Token(self._typeid, None, self._id)

    def _callmethod(self, methodname, args=(), kwds={}):
        """Calls a method of the object that is exposed, and returns its result."""
        self._hold.memory.check()
        if methodname in ("__str__", "__repr__"):
            return self._text()
        if methodname == "#GETVALUE":
            return self._getvalue()
        if methodname not in self._exposed_:
            text = f"method {methodname!r} of {self._typeid!r} object is not in exposed={self._exposed_}"
            raise _standard.RemoteError(text)
        return getattr(self, methodname)(*args, **kwds)

    def _getvalue(self):
        raise _standard.RemoteError(f"a {self._typeid!r} cannot be copied")

    def _text(self):
        return f"<{self._typeid}>"

    def __repr__(self):
        return f"<{type(self).__name__} object, typeid {self._typeid!r} at {id(self):#x}>"

    def __str__(self):
        try:
            return self._text()
        except Exception:
            return repr(self)[:-1] + "; '__str__()' failed>"


class _Container(Proxy):
    """A proxy of what may contain proxies."""

    @classmethod
    def _links_of(cls, native, slot, parameters):
        return cls._native(native, slot, parameters, False)._links()

    def _text(self):
        return repr(self._getvalue())


class DictProxy(_Container, _pagemate.ManagedDict, _standard.DictProxy):
    """A dict. Each method changes one entry at a time, ``update`` and ``clear`` one after another."""

    _typeid = "dict"

    @classmethod
    def _native(cls, native, slot, parameters, create):
        return cls.__new__(cls, native, slot, create)

    @classmethod
    def _empty(cls, native, parameters):
        native.clear()
        return True

    def _getvalue(self):
        return self.copy()


class ListProxy(_Container, _pagemate.ManagedList, _standard.ListProxy):
    """A list. Each method is one step for all others."""

    _typeid = "list"

    @classmethod
    def _native(cls, native, slot, parameters, create):
        return cls.__new__(cls, native, slot, create)

    @classmethod
    def _empty(cls, native, parameters):
        native.clear()
        return True

    def _getvalue(self):
        return self.copy()

    def __iter__(self):
        for index in range(2**63):
            try:
                value = self[index]
            except IndexError:
                return
            yield value

    def __contains__(self, value):
        return value in self.copy()

    def __add__(self, other):
        return self.copy() + (other.copy() if isinstance(other, ListProxy) else other)

    def __mul__(self, count):
        return self.copy() * count

    __rmul__ = __mul__

    def __reversed__(self):
        return reversed(self.copy())

    def __iadd__(self, values):
        self.extend(values)
        return self

    def __imul__(self, count):
        self._change(lambda values: values.__imul__(count))
        return self

    def count(self, value):
        """Returns how many elements are equal to a value."""
        return self.copy().count(value)

    def index(self, *args):
        """Returns the index of the first element that is equal to a value."""
        return self.copy().index(*args)

    def remove(self, value):
        """Removes the first element that is equal to a value."""
        self._change(lambda values: values.remove(value))

    def reverse(self):
        """Reverses the list."""
        self._change(list.reverse)

    def sort(self, *, key=None, reverse=False):
        """Sorts the list."""
        self._change(lambda values: values.sort(key=key, reverse=reverse))


class _Held:
    """For proxies whose object is an attribute, since names of users are theirs."""

    @classmethod
    def _open(cls, hold, slot, parameters):
        self = cls.__new__(cls)
        for name, value in [
            ("_hold", hold),
            ("_parameters", parameters),
            ("_object", cls._native(hold.memory.native, slot, parameters, False)),
        ]:
            object.__setattr__(self, name, value)
        return self

    @classmethod
    def _native(cls, native, slot, parameters, create):
        return _pagemate.ManagedDict(native, slot, create)

    @classmethod
    def _empty(cls, native, parameters):
        native.clear()
        return True

    @staticmethod
    def _sizes(parameters):
        return ()


class NamespaceProxy(_Held, _Container, _standard.NamespaceProxy):
    """An object with attributes. Those whose names begin with ``_`` are the proxy's own."""

    _typeid = "Namespace"

    def __getattr__(self, name):
        if name[:1] == "_":
            return object.__getattribute__(self, name)
        try:
            return self._object[name]
        except KeyError:
            raise AttributeError(f"'Namespace' object has no attribute {name!r}") from None

    def __setattr__(self, name, value):
        if name[:1] == "_":
            object.__setattr__(self, name, value)
        else:
            self._object[name] = value

    def __delattr__(self, name):
        if name[:1] == "_":
            object.__delattr__(self, name)
            return
        try:
            del self._object[name]
        except KeyError:
            raise AttributeError(f"'Namespace' object has no attribute {name!r}") from None

    def _callmethod(self, methodname, args=(), kwds={}):
        if methodname == "__getattribute__":
            return getattr(self, *args)
        return super()._callmethod(methodname, args, kwds)

    def _getvalue(self):
        return _standard.Namespace(**self._object.copy())


class ValueProxy(_Held, _Container, _standard.ValueProxy):
    """A value of any type. The type code is for show."""

    _typeid = "Value"

    def get(self):
        """Returns the value."""
        return self._object[None]

    def set(self, value):
        """Sets the value."""
        self._object[None] = value

    value = property(get, set)

    def _getvalue(self):
        return _standard.Value(self._parameters[0], self.get())

    __class_getitem__ = classmethod(types.GenericAlias)


class ArrayProxy(Proxy, _pagemate.ManagedArray, _standard.ArrayProxy):
    """An array of numbers, of a fixed length."""

    _typeid = "Array"

    @classmethod
    def _native(cls, native, slot, parameters, create):
        typecode, length = parameters
        self = cls.__new__(cls, native, slot, create, length * array.array(typecode).itemsize)
        self._parameters = parameters
        return self

    def _getvalue(self):
        typecode, length = self._parameters
        values = array.array(typecode)
        values.frombytes(self._read(0, length * values.itemsize))
        return values

    def _text(self):
        return repr(self._getvalue())

    def __len__(self):
        return self._parameters[1]

    def __iter__(self):
        return iter(self._getvalue())

    def __getitem__(self, index):
        if isinstance(index, slice):
            return self._getvalue()[index]
        values = array.array(self._parameters[0])
        values.frombytes(self._read(self._at(index) * values.itemsize, values.itemsize))
        return values[0]

    def __setitem__(self, index, value):
        typecode, length = self._parameters
        if not isinstance(index, slice):
            value = array.array(typecode, [value])
            self._write(self._at(index) * value.itemsize, value.tobytes())
            return
        if not isinstance(value, array.array):
            raise TypeError(f"can only assign array (not {type(value).__name__!r}) to array slice")
        before = self._getvalue()
        before[index] = value
        if len(before) != length:
            raise ValueError("a managed array cannot change its length")
        places = range(length)[index]
        if places:
            first, end = min(places), max(places) + 1
            self._write(first * before.itemsize, before[first:end].tobytes())

    def _at(self, index):
        try:
            return range(self._parameters[1])[index]
        except IndexError:
            raise IndexError("array index out of range") from None


class _Checked(Proxy):
    """A proxy of an object that there is without a manager, too."""

    @classmethod
    def _native(cls, native, slot, parameters, create):
        return cls.__new__(cls, *parameters, source=(native, slot, create))

    def _check(self):
        self._hold.memory.check()


class _Acquirer(_Checked):
    """A proxy of what is acquired and released."""

    #: What its class in `threading` raises if it is released too often.
    _Over = RuntimeError
    _over = "release unlocked lock"

    def acquire(self, blocking=True, timeout=None):
        """Acquires it. Returns False if it was not free in time."""
        self._check()
        if timeout is not None and timeout < 0:
            timeout = None  # as in `threading`
        return super().acquire(blocking, timeout)

    def release(self):
        """Releases it."""
        self._check()
        try:
            super().release()
        except (ValueError, AssertionError):
            raise self._Over(self._over) from None

    def __enter__(self):
        return self.acquire()

    def __exit__(self, *error):
        self.release()


class LockProxy(_Acquirer, _pagemate.Lock, _standard.AcquirerProxy):
    """A lock that any process or thread may release. It becomes free if its holder dies."""

    _typeid = "Lock"

    @classmethod
    def _empty(cls, native, parameters):
        if native.locked():
            _pagemate.Lock.release(native)
        return True

    def _text(self):
        return f"<{'locked' if _pagemate.Lock.locked(self) else 'unlocked'} lock>"


class RLockProxy(_Acquirer, _pagemate.RLock, _standard.AcquirerProxy):
    """A lock that its holder, a thread of a process, may acquire again."""

    _typeid = "RLock"
    _over = "cannot release un-acquired lock"

    @classmethod
    def _empty(cls, native, parameters):
        if not _pagemate.RLock.acquire(native, False):
            return False  # it is held for ever
        while _pagemate.RLock._is_mine(native):
            _pagemate.RLock.release(native)
        return True


class SemaphoreProxy(_Acquirer, _pagemate.Semaphore, _standard.AcquirerProxy):
    """A count of permits without owners."""

    _typeid = "Semaphore"
    _Over, _over = ValueError, "Semaphore released too many times"

    @classmethod
    def _empty(cls, native, parameters):
        while _pagemate.Semaphore.acquire(native, False):
            pass
        for _ in range(parameters[0]):
            _pagemate.Semaphore.release(native)
        return True

    def release(self, n=1):
        """Adds permits."""
        if n < 1:
            raise ValueError("n must be one or more")
        for _ in range(n):
            super().release()


class BoundedSemaphoreProxy(_Acquirer, _pagemate.BoundedSemaphore, _standard.AcquirerProxy):
    """At most so many permits as at first, which come back when their holder dies."""

    _typeid = "BoundedSemaphore"
    _Over, _over = ValueError, "Semaphore released too many times"

    @classmethod
    def _empty(cls, native, parameters):
        while _pagemate.BoundedSemaphore.get_value(native) < parameters[0]:
            _pagemate.BoundedSemaphore.release(native)
        return True


class EventProxy(_Checked, _pagemate.Event, _standard.EventProxy):
    """A flag to wait for."""

    _typeid = "Event"

    @classmethod
    def _empty(cls, native, parameters):
        _pagemate.Event.clear(native)
        return True

    def is_set(self):
        """Returns whether the flag is set."""
        self._check()
        return super().is_set()

    def set(self):
        """Sets the flag."""
        self._check()
        super().set()

    def clear(self):
        """Clears the flag."""
        self._check()
        super().clear()

    def wait(self, timeout=None):
        """Blocks until the flag is set. Returns False if that took longer than the timeout."""
        self._check()
        return super().wait(timeout)


class BarrierProxy(_Checked, _pagemate.Barrier, _standard.BarrierProxy):
    """A barrier, whose action and timeout are those of its creator."""

    _typeid = "Barrier"

    @classmethod
    def _native(cls, native, slot, parameters, create):
        return cls.__new__(cls, parameters[0], source=(native, slot, create))

    @classmethod
    def _empty(cls, native, parameters):
        _pagemate.Barrier.reset(native)
        return True

    @staticmethod
    def _sizes(parameters):
        return parameters[:1]

    def wait(self, timeout=None):
        """Blocks until all parties have arrived. Returns the index of this one."""
        self._check()
        _, action, default = self._parameters
        index = self._wait(action, default if timeout is None else timeout)
        if index is None:
            raise threading.BrokenBarrierError
        return index

    def abort(self):
        """Breaks the barrier until it is reset."""
        self._check()
        _pagemate.Barrier.abort(self)

    def reset(self):
        """Breaks the barrier for those who wait, and makes it usable again."""
        self._check()
        _pagemate.Barrier.reset(self)

    def _callmethod(self, methodname, args=(), kwds={}):
        if methodname == "__getattribute__":
            return getattr(self, *args)
        return super()._callmethod(methodname, args, kwds)

    parties = _pagemate.Barrier.parties
    n_waiting = _pagemate.Barrier.n_waiting
    broken = _pagemate.Barrier.broken


class ConditionProxy(_Checked, _pagemate.Condition, _standard.ConditionProxy):
    """A condition variable, with a managed lock."""

    _typeid = "Condition"

    @classmethod
    def _native(cls, native, slot, parameters, create):
        return cls.__new__(cls, source=(native, slot, create))

    @classmethod
    def _open(cls, hold, slot, parameters):
        self = super()._open(hold, slot, parameters)
        self._lock = hold.memory.proxy(parameters[0])
        return self

    @classmethod
    def _links_of(cls, native, slot, parameters):
        return parameters

    @staticmethod
    def _sizes(parameters):
        return ()

    def acquire(self, blocking=True, timeout=None):
        """Acquires the lock."""
        return self._lock.acquire(blocking, timeout)

    def release(self):
        """Releases the lock."""
        self._lock.release()

    def __enter__(self):
        return self._lock.__enter__()

    def __exit__(self, *error):
        self._lock.release()

    def wait(self, timeout=None):
        """Releases the lock, blocks until notified, and acquires the lock again."""
        self._check()
        return self._unlocked(_pagemate.Condition._wait, timeout)

    def notify(self, n=1):
        """Wakes at most ``n`` waiters."""
        self._check()
        self._unlocked(_pagemate.Condition._notify, n)

    def notify_all(self):
        """Wakes all waiters."""
        self._check()
        self._unlocked(_pagemate.Condition._notify, None)

    def _unlocked(self, method, argument):
        try:
            return method(self, self._lock, argument)
        except AssertionError as error:
            raise RuntimeError(str(error)) from None

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


class QueueProxy(_Checked, _pagemate.Queue, _standard.BaseProxy):
    """A queue that counts the messages that are not done, as ``queue.Queue``."""

    _typeid = "Queue"
    _exposed_ = (
        "empty", "full", "get", "get_nowait", "join", "put", "put_nowait", "qsize", "task_done",
    )  # fmt: skip

    @classmethod
    def _native(cls, native, slot, parameters, create):
        maxsize = parameters[0] if parameters[0] > 0 else queues.CAPACITY
        self = cls.__new__(cls, maxsize, source=(native, slot, create))
        self._undone = _pagemate.Semaphore(0, source=(native, f"{slot}.undone", create))
        self._lock = _pagemate.RLock(source=(native, f"{slot}.lock", create))
        self._done = _pagemate.Condition(source=(native, f"{slot}.done", create))
        return self

    @classmethod
    def _empty(cls, native, parameters):
        while native._recv(False, None) is not None:
            pass
        while native._undone.acquire(False):
            pass
        return RLockProxy._empty(native._lock, ())

    def __repr__(self):
        return f"<AutoProxy[{self._typeid}] object, typeid {self._typeid!r} at {id(self):#x}>"

    def put(self, item, block=True, timeout=None):
        """Sends an object. Raises ``queue.Full`` if there was no room in time."""
        self._check()
        _check_timeout(block, timeout)
        message = queues._dumps(item)
        self._undone.release()  # first, so that nobody calls task_done too often
        sent = False
        try:
            sent = self._send(message, block, timeout)
        finally:
            if not sent:
                self._task_done()
        if not sent:
            raise Full

    def get(self, block=True, timeout=None):
        """Receives an object. Raises ``queue.Empty`` if there was none in time."""
        self._check()
        _check_timeout(block, timeout)
        message = self._recv(block, timeout)
        if message is None:
            raise Empty
        return loads(message)

    def put_nowait(self, item):
        """Calls ``put(item, False)``."""
        self.put(item, False)

    def get_nowait(self):
        """Calls ``get(False)``."""
        return self.get(False)

    def qsize(self):
        """Returns the number of messages. It may be out of date immediately."""
        self._check()
        return super().qsize()

    def empty(self):
        """Returns whether there is nothing to receive. It may be out of date immediately."""
        self._check()
        return super().empty()

    def full(self):
        """Returns whether there is no room. It may be out of date immediately."""
        self._check()
        return super().full()

    def task_done(self):
        """Says that a message which was received is done."""
        self._check()
        self._task_done()

    def _task_done(self):
        with self._lock:
            if not self._undone.acquire(False):
                raise ValueError("task_done() called too many times")
            if self._undone.get_value() == 0:
                self._done._notify(self._lock, None)

    def join(self):
        """Blocks until all messages that were put are done."""
        self._check()
        with self._lock:
            while self._undone.get_value():
                self._done._wait(self._lock, None)


def _check_timeout(block, timeout):
    if block and timeout is not None and timeout < 0:
        raise ValueError("'timeout' must be a non-negative number")
