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

#: The most descriptors that are sent in one message. Further ones are fetched.
MOST = 250

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
    if getattr(_local, "outgoing", None) is None:
        context.assert_spawning(obj)


def give(descriptor):
    """Returns what stands for a descriptor in the pickle that is being made."""
    outgoing = getattr(_local, "outgoing", None)
    is_message = context.get_spawning_popen() is None and outgoing is not None and outgoing.in_message
    if not is_message or len(outgoing.descriptors) == MOST:
        return reduction.DupFd(descriptor)
    outgoing.descriptors.append(os.dup(descriptor))
    return Passed(len(outgoing.descriptors) - 1)


class _Outgoing:
    def __init__(self, in_message):
        self.in_message, self.descriptors = in_message, []


@contextlib.contextmanager
def outgoing(in_message):
    """While a message is pickled and sent: returns the list of the descriptors that go with it."""
    before, now = getattr(_local, "outgoing", None), _Outgoing(in_message)
    _local.outgoing = now
    try:
        yield now.descriptors
    finally:
        _local.outgoing = before
        for descriptor in now.descriptors:
            os.close(descriptor)


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
