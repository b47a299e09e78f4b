"""Pipes, as in ``multiprocessing.connection``, whose messages are whole or not there.

A message that was cut by a death cannot be, nor one that is mixed with another, also if several
processes read or write at one end. Long messages are shared memory, and buffers of protocol 5 are
not copied when they are received. ``Listener`` and ``Client`` are the standard library's.
"""

import os
import pickle
from multiprocessing import BufferTooShort, connection, reduction
from multiprocessing.connection import Client, Listener, wait

from .. import _pagemate
from . import travel

__all__ = ["Client", "Connection", "Listener", "Pipe", "wait"]


def __getattr__(name):
    # Other names are the standard library's.
    return getattr(connection, name)


class Connection(connection._ConnectionBase):
    """An end of a pipe."""

    def __reduce__(self):
        descriptor = travel.give(self.fileno())
        return _rebuild, (type(self), descriptor, self._readable, self._writable)

    def _close(self, close=os.close):
        close(self._handle)

    def _send_bytes(self, buf):
        _pagemate.pipe_send_bytes(self._handle, buf)

    def send(self, obj):
        """Sends an object, which is pickled."""
        self._check_closed()
        self._check_writable()
        _pagemate.pipe_send(self._handle, obj)

    def recv(self):
        """Receives an object."""
        self._check_closed()
        self._check_readable()
        return _loads(*_pagemate.pipe_recv(self._handle, False, None))

    def _recv_message(self, copies, most=None):
        """Receives bytes. An object that has more than its pickle is pickled in one piece."""
        received = _pagemate.pipe_recv(self._handle, copies, most)
        if received is None:
            return None
        message, buffers, descriptors = received
        if buffers or descriptors:
            message = reduction.ForkingPickler.dumps(_loads(message, buffers, descriptors))
            message = bytes(message) if copies else message
        return message

    def recv_bytes(self, maxlength=None):
        """Receives bytes."""
        self._check_closed()
        self._check_readable()
        if maxlength is not None and maxlength < 0:
            raise ValueError("negative maxlength")
        message = self._recv_message(True, maxlength)
        if message is None:
            self._bad_message_length()
        return message

    def recv_bytes_into(self, buf, offset=0):
        """Receives bytes into a writable buffer. Returns their number."""
        self._check_closed()
        self._check_readable()
        with memoryview(buf) as view, view.cast("B") as target:
            if offset < 0:
                raise ValueError("negative offset")
            if offset > len(target):
                raise ValueError("offset too large")
            message = memoryview(self._recv_message(False))
            if offset + len(message) > len(target):
                raise BufferTooShort(message.tobytes())
            target[offset : offset + len(message)] = message
            return len(message)

    def _poll(self, timeout):
        return _pagemate.pipe_poll(self._handle, timeout)


def _loads(message, buffers, descriptors):
    if not descriptors:
        return pickle.loads(message, buffers=buffers)
    with travel.incoming(descriptors):
        return pickle.loads(message, buffers=buffers)


def _rebuild(cls, descriptor, readable, writable):
    return cls(descriptor.detach(), readable, writable)


def Pipe(duplex=True):
    """Returns both ends of a new pipe. Unless it is ``duplex``, the first reads what the second
    writes."""
    first, second = _pagemate.pipe_pair(duplex)
    return Connection(first, writable=duplex), Connection(second, readable=duplex)
