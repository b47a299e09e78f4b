"""ctypes objects in shared memory, as in ``multiprocessing.sharedctypes``, with pagemate's locks.

The memory is the standard library's, so far. The locks are ours, so a process that is killed while
it holds one blocks nobody.
"""

from multiprocessing import sharedctypes
from multiprocessing.sharedctypes import RawArray, RawValue, copy

from .synchronize import RLock

__all__ = ["Array", "RawArray", "RawValue", "Value", "copy", "synchronized"]


def Value(typecode_or_type, *args, lock=True, ctx=None):
    """Returns a shared value with a lock of its own, or the one that is given."""
    obj = RawValue(typecode_or_type, *args)
    return _with_lock(obj, lock)


def Array(typecode_or_type, size_or_initializer, *, lock=True, ctx=None):
    """Returns a shared array with a lock of its own, or the one that is given."""
    obj = RawArray(typecode_or_type, size_or_initializer)
    return _with_lock(obj, lock)


def synchronized(obj, lock=None, ctx=None):
    """Returns ``obj`` with accessors that hold the lock."""
    return sharedctypes.synchronized(obj, RLock() if lock is None else lock)


def _with_lock(obj, lock):
    if lock is False:
        return obj
    if lock in (True, None):
        lock = RLock()
    if not hasattr(lock, "acquire"):
        raise AttributeError(f"{lock!r} has no method 'acquire': pass a lock, True or False")
    return sharedctypes.synchronized(obj, lock)
