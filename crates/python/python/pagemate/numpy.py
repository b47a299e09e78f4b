"""Arrays of numpy in shared memory, which other processes have without a copy. Needs numpy.

A :class:`SharedArray` goes to a child as an argument, or through a pipe or a queue, as a descriptor
of its memory. All processes then see and change the same elements; a lock of theirs keeps them from
doing so at the same time. The memory has no name, and is freed with the last array that has it, or
with its process::

    total = pagemate.numpy.zeros(1000)
    context.Process(target=work, args=(total,)).start()

Views of a shared array are shared, too. What is computed from it is an ordinary array.
"""

import math
from multiprocessing import context

import numpy

from . import _pagemate
from .multiprocessing import memory

__all__ = ["SharedArray", "array", "full", "ones", "zeros"]


class SharedArray(numpy.ndarray):
    """An array of zeros in shared memory. Its elements must not be Python objects."""

    def __new__(cls, shape, dtype=float, order="C"):
        dtype = numpy.dtype(dtype)
        if dtype.hasobject:
            raise TypeError(f"{dtype} has Python objects, which cannot be in shared memory")
        length = math.prod(shape) if hasattr(shape, "__len__") else shape
        piece = memory.allocate(int(length) * dtype.itemsize)
        self = super().__new__(cls, shape, dtype, piece.create_memoryview(), order=order)
        self._piece = piece
        return self

    def __array_finalize__(self, obj):
        # A view has the memory of `obj`, and a copy or a result has not.
        piece = getattr(obj, "_piece", None)
        self._piece = piece if piece is not None and numpy.may_share_memory(self, obj) else None

    def __array_wrap__(self, array, *args):
        array = super().__array_wrap__(array, *args)
        return array if array is self or not isinstance(array, SharedArray) else array.view(numpy.ndarray)

    def __getitem__(self, index):
        item = super().__getitem__(index)
        is_copy = isinstance(item, SharedArray) and item._piece is None
        return item.view(numpy.ndarray) if is_copy else item

    def __reduce_ex__(self, protocol):
        travels = context.get_spawning_popen() is not None or _pagemate.is_sending()
        if self._piece is None or not travels:
            return self.view(numpy.ndarray).__reduce_ex__(protocol)
        offset = _address(self) - _address(numpy.frombuffer(self._piece.create_memoryview(), "u1"))
        layout = (self.shape, self.dtype, offset, self.strides, self.flags.writeable)
        return _rebuild, (type(self), self._piece, *layout)


def _address(array):
    return array.__array_interface__["data"][0]


def _rebuild(cls, piece, shape, dtype, offset, strides, writeable):
    self = numpy.ndarray.__new__(cls, shape, dtype, piece.create_memoryview(), offset, strides)
    self._piece, self.flags.writeable = piece, writeable
    return self


def zeros(shape, dtype=float, order="C"):
    """Returns a shared array of zeros."""
    return SharedArray(shape, dtype, order)


def ones(shape, dtype=float, order="C"):
    """Returns a shared array of ones."""
    return full(shape, 1, dtype, order)


def full(shape, value, dtype=None, order="C"):
    """Returns a shared array whose elements are ``value``."""
    self = SharedArray(shape, numpy.asarray(value).dtype if dtype is None else dtype, order)
    self[...] = value
    return self


def array(source, dtype=None):
    """Returns a shared copy of an array, or of what numpy can make an array of."""
    source = numpy.asarray(source, dtype)
    self = SharedArray(source.shape, source.dtype)
    self[...] = source
    return self
