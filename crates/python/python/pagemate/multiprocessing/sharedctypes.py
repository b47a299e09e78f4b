"""ctypes objects in shared memory, as in ``multiprocessing.sharedctypes``.

A process that is killed while it holds the lock of a value blocks nobody.
"""

import ctypes
from multiprocessing import context, sharedctypes

from . import memory
from .synchronize import RLock

__all__ = ["Array", "RawArray", "RawValue", "Value", "copy", "synchronized"]

copy = sharedctypes.copy


def _type_of(typecode_or_type):
    return sharedctypes.typecode_to_type.get(typecode_or_type, typecode_or_type)


def _new(type_):
    piece = memory.allocate(ctypes.sizeof(type_))
    # This registers the reduction of the type. It is the standard library's, since a type can have
    # only one, and pickles the object as its type and its piece of memory.
    return sharedctypes.rebuild_ctype(type_, piece, None)


def RawValue(typecode_or_type, *args):
    """Returns a ctypes object in shared memory."""
    obj = _new(_type_of(typecode_or_type))
    obj.__init__(*args)
    return obj


def RawArray(typecode_or_type, size_or_initializer):
    """Returns a ctypes array in shared memory."""
    type_ = _type_of(typecode_or_type)
    if isinstance(size_or_initializer, int):
        return _new(type_ * size_or_initializer)
    result = _new(type_ * len(size_or_initializer))
    result.__init__(*size_or_initializer)
    return result


def Value(typecode_or_type, *args, lock=True, ctx=None):
    """Returns a shared value with a lock of its own, or the one that is given."""
    return _with_lock(RawValue(typecode_or_type, *args), lock, ctx)


def Array(typecode_or_type, size_or_initializer, *, lock=True, ctx=None):
    """Returns a shared array with a lock of its own, or the one that is given."""
    return _with_lock(RawArray(typecode_or_type, size_or_initializer), lock, ctx)


def _with_lock(obj, lock, ctx):
    if lock is False:
        return obj
    if lock in (True, None):
        lock = RLock(ctx=ctx)
    if not hasattr(lock, "acquire"):
        raise AttributeError(f"{lock!r} has no method 'acquire': pass a lock, True or False")
    return synchronized(obj, lock, ctx)


def synchronized(obj, lock=None, ctx=None):
    """Returns ``obj`` with accessors that hold the lock."""
    if isinstance(obj, SynchronizedBase):
        raise TypeError(f"{obj!r} is synchronized already")
    if isinstance(obj, ctypes._SimpleCData):
        return Synchronized(obj, lock, ctx)
    if isinstance(obj, ctypes.Array):
        return (SynchronizedString if obj._type_ is ctypes.c_char else SynchronizedArray)(obj, lock, ctx)
    return _class_of(type(obj))(obj, lock, ctx)


def _locked(name):
    """Returns a property that reads and writes an attribute of the object under the lock."""

    def read(self):
        with self._lock:
            return getattr(self._obj, name)

    def write(self, value):
        with self._lock:
            setattr(self._obj, name, value)

    return property(read, write)


_classes = {}


def _class_of(type_):
    """Returns the class of synchronized structures of a type."""
    if type_ not in _classes:
        fields = {field[0]: _locked(field[0]) for field in type_._fields_}
        _classes[type_] = type(f"Synchronized{type_.__name__}", (SynchronizedBase,), fields)
    return _classes[type_]


class SynchronizedBase:
    """A ctypes object with its lock."""

    def __init__(self, obj, lock=None, ctx=None):
        self._obj = obj
        self._lock = RLock(ctx=ctx) if lock is None else lock
        self.acquire, self.release = self._lock.acquire, self._lock.release

    def __enter__(self):
        return self._lock.__enter__()

    def __exit__(self, *args):
        return self._lock.__exit__(*args)

    def __reduce__(self):
        context.assert_spawning(self)
        return synchronized, (self._obj, self._lock)

    def get_obj(self):
        """Returns the ctypes object without the lock."""
        return self._obj

    def get_lock(self):
        """Returns the lock."""
        return self._lock

    def __repr__(self):
        return f"<{type(self).__name__} wrapper for {self._obj}>"


class Synchronized(SynchronizedBase):
    """A number or a character."""

    value = _locked("value")


class SynchronizedArray(SynchronizedBase):
    """An array."""

    def __len__(self):
        return len(self._obj)

    def __getitem__(self, index):
        with self._lock:
            return self._obj[index]

    def __setitem__(self, index, value):
        with self._lock:
            self._obj[index] = value


class SynchronizedString(SynchronizedArray):
    """An array of bytes."""

    value = _locked("value")
    raw = _locked("raw")
