"""How a descriptor goes to another process, inside of a pickle.

Its object's ``__reduce__`` calls :func:`give`. What that returns goes into the pickle, and its
``detach`` returns a descriptor in the other process. There are three ways:

- to a child that is being started, by its start method;
- in a message of a pipe, beside the pickle: the descriptor is in the message, so it does not
  matter what becomes of the sender;
- in a message of a queue, which is in memory, where no descriptor can be: the receiver fetches it
  from a thread of the sender, as in ``multiprocessing``. The sender must still be there.
"""

import contextlib
import os
import threading
from multiprocessing import context, reduction

from .. import _pagemate

_local = threading.local()


class Passed:
    """A descriptor that is in the same message."""

    def __init__(self, index):
        self.index = index

    def detach(self):
        """Returns the descriptor, once."""
        descriptor, _local.incoming[self.index] = _local.incoming[self.index], None
        return descriptor


def check(obj):
    """Raises RuntimeError unless a child is being started, or a message is being sent."""
    if not _pagemate.is_sending():
        context.assert_spawning(obj)


def give(descriptor):
    """Returns what stands for a descriptor in the pickle that is being made."""
    if context.get_spawning_popen() is None:
        index = _pagemate.pass_descriptor(descriptor)
        if index is not None:
            return Passed(index)
    return reduction.DupFd(descriptor)


@contextlib.contextmanager
def incoming(descriptors):
    """While a message is unpickled that came with these descriptors. Closes those not taken."""
    before, _local.incoming = getattr(_local, "incoming", None), descriptors
    try:
        yield
    finally:
        _local.incoming = before
        for descriptor in descriptors:
            if descriptor is not None:
                os.close(descriptor)
