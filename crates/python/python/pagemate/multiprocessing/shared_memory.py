"""``SharedMemory`` and ``ShareableList``, as in ``multiprocessing.shared_memory``, without a tracker.

Memory that is created without a name gets one that any process of the machine can attach by, but no
file: it is there as long as a process has it, and is gone with the last one, however that ends.
Memory that is created under a given name is a file in ``/dev/shm``, as in the standard library, so
that programs without pagemate can attach, too. See :mod:`.shared_names` for how that works and what
becomes of files.

A process that only attaches removes nothing, whatever becomes of it.
"""

import mmap
import os
import struct
import types
from functools import partial
from multiprocessing import shared_memory as _standard

from . import shared_names

__all__ = ["ShareableList", "SharedMemory"]

_USE_POSIX = True
_SHM_NAME_PREFIX = _standard._SHM_NAME_PREFIX


class SharedMemory:
    """A block of memory that several processes have mapped.

    ``track`` has no effect: there is no tracker.
    """

    # Defaults, so that `close` works in any state.
    _name = _buf = _mmap = _holder = None
    _flags = os.O_RDWR
    _mode = 0o600

    def __init__(self, name=None, create=False, size=0, *, track=True):
        if size < 0:
            raise ValueError("'size' must be a positive integer")
        if create:
            self._flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
            if size == 0:
                raise ValueError("'size' must be a positive number different from zero")
        if name is None and not create:
            raise ValueError("'name' can only be None if create=True")
        if name is None:
            self._holder = shared_names.create(size, self._mode)
        else:
            size = size if create else None
            self._holder = shared_names.open_file("/" + name, self._flags, self._mode, size)
        self._name = self._holder.name
        try:
            self._size = os.fstat(self._holder.descriptor).st_size
            self._mmap = mmap.mmap(self._holder.descriptor, self._size)
        except BaseException:
            self._holder.release()
            if create:
                self.unlink()
            raise
        self._buf = memoryview(self._mmap)

    def __del__(self):
        try:
            self.close()
        except (OSError, BufferError):
            pass

    def __reduce__(self):
        return type(self), (self.name, False, self.size)

    def __repr__(self):
        return f"{type(self).__name__}({self.name!r}, size={self.size})"

    @property
    def buf(self):
        """The bytes, as a memoryview; None after ``close``."""
        return self._buf

    @property
    def name(self):
        """The name by which others attach."""
        return self._name[1:]

    @property
    def size(self):
        """The number of bytes."""
        return self._size

    def close(self):
        """Ends the use of the memory by this object. Raises BufferError while there are views."""
        if self._buf is not None:
            self._buf.release()
            self._buf = None
        if self._mmap is not None:
            self._mmap.close()
            self._mmap = None
        if self._holder is not None:
            self._holder.close()
            self._holder = None

    def unlink(self):
        """Removes the name. The memory stays for those who have it.

        Raises FileNotFoundError if the name was removed before.
        """
        if self._name:
            shared_names.unlink(self._name)


class ShareableList:
    """A list of a fixed length in shared memory, of ``int``, ``float``, ``bool``, ``str``, ``bytes``
    and ``None``.

    Its memory has the layout of the standard library, and after that the lengths of the strings. So
    strings keep trailing zeros, and a list that the standard library has made can be used, too.
    """

    # - 8 bytes: the number N of items
    # - (N + 1) * 8 bytes: where each item begins in the data, and where the last one ends
    # - the data
    # - N * 8 bytes: the format of each item
    # - N bytes: how each item is made of its data: 1: a string, 2: bytes, 3: None, 0: as it is
    # - 8 bytes: `_MAGIC`
    # - N * 8 bytes: the length of each string in bytes

    _MAGIC = b"lengths\0"
    _FORMATS = {int: "q", float: "d", bool: "xxxxxxx?", types.NoneType: "xxxxxx?x"}
    _KINDS = {str: 1, bytes: 2, types.NoneType: 3}

    def __init__(self, sequence=None, *, name=None):
        if name is None or sequence is not None:
            items = [*(sequence or ())]
            data = [item.encode() if isinstance(item, str) else item for item in items]
            # A string has room for at least one byte more.
            formats = [
                f"{len(item) // 8 * 8 + 8}s" if isinstance(item, bytes) else self._FORMATS[type(item)]
                for item in data
            ]
            ends = [0]
            for form in formats:
                ends.append(ends[-1] + struct.calcsize(form))
            self._list_len, self._ends = len(items), ends
            self.shm = SharedMemory(name, create=True, size=self._offset_lengths + 8 * len(items))
            struct.pack_into(f"{len(items) + 2}q", self.shm.buf, 0, len(items), *ends)
            struct.pack_into("8s", self.shm.buf, self._offset_lengths - 8, self._MAGIC)
            self._has_lengths = True
            for position, item in enumerate(items):
                self._store(position, formats[position], item, data[position])
        else:
            self.shm = SharedMemory(name)
            self._list_len = len(self)
            self._ends = [*struct.unpack_from(f"{self._list_len + 1}q", self.shm.buf, 8)]
            magic = self._offset_lengths - 8
            self._has_lengths = bytes(self.shm.buf[magic : magic + 8]) == self._MAGIC

    @property
    def _offset_data(self):
        return 8 * (self._list_len + 2)

    @property
    def _offset_formats(self):
        return self._offset_data + self._ends[-1]

    @property
    def _offset_kinds(self):
        return self._offset_formats + 8 * self._list_len

    @property
    def _offset_lengths(self):
        return self._offset_kinds + self._list_len + 8

    def _position(self, position):
        try:
            return range(self._list_len)[position]
        except IndexError:
            raise IndexError("index out of range") from None

    def _get_packing_format(self, position):
        """Returns the format of an item's data."""
        at = self._offset_formats + 8 * self._position(position)
        return bytes(self.shm.buf[at : at + 8]).rstrip(b"\0").decode()

    def _store(self, position, form, value, data):
        if isinstance(data, bytes) and self._has_lengths:
            struct.pack_into("q", self.shm.buf, self._offset_lengths + 8 * position, len(data))
        struct.pack_into("8s", self.shm.buf, self._offset_formats + 8 * position, form.encode())
        kind = next((kind for cls, kind in self._KINDS.items() if isinstance(value, cls)), 0)
        struct.pack_into("b", self.shm.buf, self._offset_kinds + position, kind)
        struct.pack_into(form, self.shm.buf, self._offset_data + self._ends[position], data)

    def __getitem__(self, position):
        position = self._position(position)
        form = self._get_packing_format(position)
        (value,) = struct.unpack_from(form, self.shm.buf, self._offset_data + self._ends[position])
        kind = self.shm.buf[self._offset_kinds + position]
        if kind == 3:
            return None
        if kind == 0:
            return value
        value = self._cut(position, value)
        return value.decode() if kind == 1 else value

    def _cut(self, position, data):
        """Returns the bytes of a string without those that only fill its room."""
        least = data.rstrip(b"\0")
        if not self._has_lengths:
            return least
        at = self._offset_lengths + 8 * position
        (length,) = struct.unpack_from("q", self.shm.buf, at)
        # The standard library may have stored a longer string here.
        return data[:length] if length >= len(least) else least

    def __setitem__(self, position, value):
        try:
            position = range(self._list_len)[position]
        except IndexError:
            raise IndexError("assignment index out of range") from None
        data = value.encode() if isinstance(value, str) else value
        if isinstance(data, bytes):
            room = self._ends[position + 1] - self._ends[position]
            if len(data) > room:
                raise ValueError("bytes/str item exceeds available storage")
            form = self._get_packing_format(position)
            form = form if form[-1] == "s" else f"{room}s"
        else:
            form = self._FORMATS[type(value)]
        self._store(position, form, value, data)

    def __reduce__(self):
        return partial(type(self), name=self.shm.name), ()

    def __len__(self):
        return struct.unpack_from("q", self.shm.buf, 0)[0]

    def __repr__(self):
        return f"{type(self).__name__}({[*self]}, name={self.shm.name!r})"

    @property
    def format(self):
        """The formats of all items."""
        return "".join(self._get_packing_format(position) for position in range(self._list_len))

    def count(self, value):
        """Returns how many items are equal to a value."""
        return sum(value == item for item in self)

    def index(self, value):
        """Returns the index of the first item that is equal to a value."""
        for position, item in enumerate(self):
            if value == item:
                return position
        raise ValueError(f"{value!r} not in this container")

    __class_getitem__ = classmethod(types.GenericAlias)
