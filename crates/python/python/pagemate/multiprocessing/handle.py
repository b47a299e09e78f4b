"""How an object goes to another process: its descriptor does.

A forked child inherits the object itself. Otherwise it is pickled while a child is started or a
message is sent, and the descriptor goes as :mod:`.travel` says.
"""

from . import travel


class Handle:
    """Base of all classes with a native half, which comes after it among the bases."""

    def __reduce__(self):
        travel.check(self)
        descriptor = travel.give(self._descriptor())
        return _rebuild, (type(self), descriptor), self._state() or None

    def _state(self):
        """Returns the attributes that the child's object needs, as a dict."""
        return None


def _rebuild(cls, descriptor):
    native = next(base for base in cls.__mro__ if base.__module__ == "pagemate._pagemate")
    return native.__new__(cls, source=descriptor.detach())
