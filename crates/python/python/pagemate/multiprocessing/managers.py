"""Managers, as in ``multiprocessing.managers``, whose usual objects need no server.

``SyncManager`` has its dicts, lists, locks, queues and the like in memory that all processes share.
It starts a server process, which is the standard library's, for what needs one: types that were
registered, a ``Pool``, an initializer, and managers with an address.
"""

import array
from multiprocessing import managers as _standard
from multiprocessing import util
from multiprocessing.managers import *  # noqa: F403
from multiprocessing.managers import (  # noqa: F401
    AutoProxy,
    BaseManager,
    BaseProxy,
    IteratorProxy,
    MakeProxyType,
    Namespace,
    PoolProxy,
    ProcessError,
    RebuildProxy,
    RemoteError,
    Server,
    State,
    Token,
    Value,
    convert_to_error,
    dispatch,
    listener_client,
    public_methods,
)

from . import pool, shared_memory, shared_names
from .manager_memory import Memory
from .proxies import (
    ArrayProxy,
    BarrierProxy,
    BoundedSemaphoreProxy,
    ConditionProxy,
    DictProxy,
    EventProxy,
    ListProxy,
    LockProxy,
    NamespaceProxy,
    QueueProxy,
    RLockProxy,
    SemaphoreProxy,
    ValueProxy,
)

__all__ = [*_standard.__all__]


class SyncManager(_standard.SyncManager):
    """Creates objects that processes share, and proxies of them.

    The objects are in memory, unless the manager has an address, or has been connected to one.
    """

    _memory = _server = None

    def __init__(self, address=None, *args, **kwds):
        super().__init__(address, *args, **kwds)
        #: Whether all objects are in a server process, which may be elsewhere.
        self._is_remote = address is not None

    def start(self, initializer=None, initargs=()):
        """Starts the manager. The initializer is called in a server process."""
        if self._state.value != State.INITIAL or self._is_remote or initializer is not None:
            super().start(initializer, initargs)
            self._server = self.shutdown
            if self._is_remote:
                return
        self._memory, self._state.value = Memory(), State.STARTED
        self.shutdown = util.Finalize(
            self, SyncManager._end, args=(self._memory, self._state, self._servers()), exitpriority=0
        )

    def _servers(self):
        """Returns the list of what ends the server, which may be started later."""
        self._enders = [] if self._server is None else [self._server]
        return self._enders

    @staticmethod
    def _end(memory, state, enders):
        memory.native.close()
        for end in enders:
            end()
        state.value = State.SHUTDOWN

    def connect(self):
        """Connects to a server. All objects are there."""
        super().connect()
        self._is_remote = True

    def _start_server(self):
        """Starts the server, for what needs one."""
        assert self._state.value == State.STARTED, "server not yet started"
        if self._is_remote or self._server is not None:
            return
        shutdown = self.shutdown
        self._state.value = State.INITIAL
        try:
            super().start()
            self._server = self.shutdown
            self._enders.append(self._server)
        finally:
            self._state.value, self.shutdown = State.STARTED, shutdown

    def _create(self, typeid, /, *args, **kwds):
        self._start_server()
        return super()._create(typeid, *args, **kwds)

    def join(self, timeout=None):
        """Blocks until the server has ended, if there is one."""
        if getattr(self, "_process", None) is not None:
            super().join(timeout)

    @property
    def address(self):
        """The address of the server, which is started if necessary."""
        if self._state.value == State.STARTED:
            self._start_server()
        return self._address

    def _number_of_objects(self):
        if self._is_remote:
            return super()._number_of_objects()
        in_server = 0 if self._server is None else super()._number_of_objects()
        return self._memory.count() + in_server

    def _debug_info(self):
        return super()._debug_info() if self._server is not None else ""

    def _new(self, kind, *parameters):
        assert self._state.value == State.STARTED, "server not yet started"
        return self._memory.create(kind, parameters)

    def dict(self, *args, **kwds):
        """Returns a dict."""
        if self._is_remote:
            return super().dict(*args, **kwds)
        contents = dict(*args, **kwds)
        proxy = self._new(DictProxy)
        proxy.update(contents)
        return proxy

    def list(self, *args):
        """Returns a list."""
        if self._is_remote:
            return super().list(*args)
        contents = list(*args)
        proxy = self._new(ListProxy)
        proxy.extend(contents)
        return proxy

    def Namespace(self, /, **kwds):
        """Returns an object with attributes."""
        if self._is_remote:
            return super().Namespace(**kwds)
        proxy = self._new(NamespaceProxy)
        proxy._object.update(kwds)
        return proxy

    def Value(self, typecode, value, lock=True):
        """Returns a value of any type."""
        if self._is_remote:
            return super().Value(typecode, value, lock)
        proxy = self._new(ValueProxy, typecode)
        proxy.set(value)
        return proxy

    def Array(self, typecode, sequence, lock=True):
        """Returns an array of numbers."""
        if self._is_remote:
            return super().Array(typecode, sequence, lock)
        values = array.array(typecode, sequence)
        proxy = self._new(ArrayProxy, typecode, len(values))
        proxy._write(0, values.tobytes())
        return proxy

    def Queue(self, maxsize=0):
        """Returns a queue, as ``queue.Queue``."""
        return super().Queue(maxsize) if self._is_remote else self._new(QueueProxy, maxsize)

    def JoinableQueue(self, maxsize=0):
        """Returns a queue, as ``queue.Queue``."""
        return super().JoinableQueue(maxsize) if self._is_remote else self._new(QueueProxy, maxsize)

    def Lock(self):
        """Returns a lock."""
        return super().Lock() if self._is_remote else self._new(LockProxy)

    def RLock(self):
        """Returns a lock that its holder may acquire again."""
        return super().RLock() if self._is_remote else self._new(RLockProxy)

    def Semaphore(self, value=1):
        """Returns a semaphore."""
        if self._is_remote:
            return super().Semaphore(value)
        if value < 0:
            raise ValueError("semaphore initial value must be >= 0")
        return self._new(SemaphoreProxy, value)

    def BoundedSemaphore(self, value=1):
        """Returns a semaphore whose permits come back when their holder dies."""
        if self._is_remote:
            return super().BoundedSemaphore(value)
        if value < 0:
            raise ValueError("semaphore initial value must be >= 0")
        return self._new(BoundedSemaphoreProxy, value)

    def Event(self):
        """Returns a flag to wait for."""
        return super().Event() if self._is_remote else self._new(EventProxy)

    def Condition(self, lock=None):
        """Returns a condition variable. ``lock`` is a managed lock."""
        if self._is_remote:
            return super().Condition(*(() if lock is None else (lock,)))
        lock = self.RLock() if lock is None else lock
        if not isinstance(lock, (LockProxy, RLockProxy)) or lock._hold.memory is not self._memory:
            raise TypeError(f"the lock of a Condition is one of the same manager, not {lock!r}")
        self._memory.keep(lock._hold.number)
        return self._new(ConditionProxy, lock._hold.number)

    def Barrier(self, parties, action=None, timeout=None):
        """Returns a barrier. The action is called in the process that arrives last."""
        if self._is_remote:
            return super().Barrier(parties, action, timeout)
        return self._new(BarrierProxy, parties, action, timeout)


SyncManager.register("Pool", pool.Pool, PoolProxy)


class _Tracker(_standard._SharedMemoryTracker):
    """The names of the memory that a manager has created."""

    def destroy_segment(self, segment_name):
        """Removes a name."""
        self.segment_names.remove(segment_name)
        try:
            shared_names.unlink("/" + segment_name)
        except FileNotFoundError:
            pass  # its creator has ended, and nobody has it


class _SharedMemoryServer(_standard.SharedMemoryServer):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        name = self.shared_memory_context.shared_memory_context_name
        self.shared_memory_context = _Tracker(name, [])


class SharedMemoryManager(BaseManager):
    """Creates shared memory whose names are removed when the manager is shut down."""

    _Server = _SharedMemoryServer

    def get_server(self):
        """Returns the server, to be run in this process."""
        if self._state.value != State.INITIAL:
            raise ProcessError("the manager was started before")
        return self._Server(self._registry, self._address, self._authkey, self._serializer)

    def SharedMemory(self, size):
        """Returns new shared memory."""
        return self._tracked(lambda: shared_memory.SharedMemory(None, create=True, size=size))

    def ShareableList(self, sequence):
        """Returns a new list in shared memory."""
        return self._tracked(lambda: shared_memory.ShareableList(sequence))

    def _tracked(self, make):
        with self._Client(self._address, authkey=self._authkey) as connection:
            made = make()
            memory = getattr(made, "shm", made)
            try:
                dispatch(connection, None, "track_segment", (memory.name,))
            except BaseException:
                memory.unlink()
                raise
        return made
