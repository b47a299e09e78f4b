"""Plain memory that children share: small pieces of anonymous arenas.

An arena is memory without a name, so nothing can be left behind. It is freed when no process has
anything in it.
"""

import mmap
import os
import threading

from . import travel

#: Bytes of an arena for small pieces.
ARENA = 64 << 10
#: Longer pieces have an arena of their own.
SMALL = 4 << 10
#: Alignment of the pieces: a cache line, so that two values do not slow each other down.
ALIGN = 64


class Arena:
    """Memory that is mapped in several processes."""

    def __init__(self, size, descriptor=None):
        if descriptor is None:
            descriptor = os.memfd_create("pagemate")
            try:
                # Memory that is not there when it is touched would end the process by SIGBUS.
                os.posix_fallocate(descriptor, 0, size)
            except BaseException:
                os.close(descriptor)
                raise
        self.size, self.descriptor = size, descriptor
        try:
            self.map = mmap.mmap(descriptor, size)
        except BaseException:
            os.close(descriptor)
            raise
        self.used = 0

    def __reduce__(self):
        travel.check(self)
        return _open_arena, (self.size, travel.give(self.descriptor))

    def __del__(self):
        if hasattr(self, "used"):
            os.close(self.descriptor)


def _open_arena(size, descriptor):
    return Arena(size, descriptor.detach())


class Memory:
    """A zeroed piece of an arena. Its arena stays as long as this or a view of it."""

    def __init__(self, arena, offset, size):
        self.arena, self.offset, self.size = arena, offset, size

    def create_memoryview(self):
        """Returns the bytes, writable."""
        return memoryview(self.arena.map)[self.offset : self.offset + self.size]


class _Allocator:
    """Hands out pieces one after the other. Pieces are not used again; arenas are freed whole."""

    def __init__(self):
        self.lock = threading.Lock()
        self.arena = None

    def allocate(self, size):
        if size > SMALL:
            return Memory(Arena(size), 0, size)
        with self.lock:
            if self.arena is None or self.arena.used + size > ARENA:
                self.arena = Arena(ARENA)
            memory = Memory(self.arena, self.arena.used, size)
            self.arena.used += -(-max(size, 1) // ALIGN) * ALIGN
            return memory


_allocator = _Allocator()


def _begin():
    # A forked child must not hand out the rest of its parent's arena.
    global _allocator
    _allocator = _Allocator()


os.register_at_fork(after_in_child=_begin)


def allocate(size):
    """Returns ``size`` zeroed bytes."""
    return _allocator.allocate(size)
