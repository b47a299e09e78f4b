"""How an object goes to a child: its descriptor does, by the way of the start method.

A forked child inherits the object itself. For the others it is pickled while they are started, and
the start method duplicates the descriptor: spawn by inheritance, forkserver over its socket.
"""

from multiprocessing import context, reduction


class Handle:
    """Base of all classes with a native half, which comes after it among the bases."""

    def __reduce__(self):
        context.assert_spawning(self)
        descriptor = reduction.DupFd(self._descriptor())
        return _rebuild, (type(self), descriptor), self._state() or None

    def _state(self):
        """Returns the attributes that the child's object needs, as a dict."""
        return None


def _rebuild(cls, descriptor):
    native = next(base for base in cls.__mro__ if base.__module__ == "pagemate._pagemate")
    return native.__new__(cls, descriptor=descriptor.detach())
