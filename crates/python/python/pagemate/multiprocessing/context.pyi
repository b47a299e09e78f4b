from collections.abc import Callable, Iterable
from multiprocessing import context as _standard
from multiprocessing.managers import SyncManager
from typing import Any, Literal, overload

from . import sharedctypes
from .connection import Connection
from .pool import Pool as _Pool
from .queues import JoinableQueue as _JoinableQueue
from .queues import Queue as _Queue
from .queues import SimpleQueue as _SimpleQueue
from .synchronize import Barrier as _Barrier
from .synchronize import BoundedSemaphore as _BoundedSemaphore
from .synchronize import Condition as _Condition
from .synchronize import Event as _Event
from .synchronize import Lock as _Lock
from .synchronize import RLock as _RLock
from .synchronize import Semaphore as _Semaphore

__all__ = ["get_context"]

class Process(_standard.Process): ...

class _Objects:
    def Lock(self) -> _Lock: ...
    def RLock(self) -> _RLock: ...
    def Condition(self, lock: _Lock | _RLock | None = None) -> _Condition: ...
    def Semaphore(self, value: int = 1) -> _Semaphore: ...
    def BoundedSemaphore(self, value: int = 1) -> _BoundedSemaphore: ...
    def Event(self) -> _Event: ...
    def Barrier(
        self, parties: int, action: Callable[[], object] | None = None, timeout: float | None = None
    ) -> _Barrier: ...
    def Queue(self, maxsize: int = 0) -> _Queue[Any]: ...
    def JoinableQueue(self, maxsize: int = 0) -> _JoinableQueue[Any]: ...
    def SimpleQueue(self) -> _SimpleQueue[Any]: ...
    def Pipe(self, duplex: bool = True) -> tuple[Connection, Connection]: ...
    def Pool(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
    ) -> _Pool: ...
    def Manager(self) -> SyncManager: ...
    def Value(
        self, typecode_or_type: str | type[Any], *args: Any, lock: bool | _Lock | _RLock | None = True
    ) -> Any: ...
    def Array(
        self,
        typecode_or_type: str | type[Any],
        size_or_initializer: int | Iterable[Any],
        *,
        lock: bool | _Lock | _RLock | None = True,
    ) -> Any: ...
    def RawValue(self, typecode_or_type: str | type[Any], *args: Any) -> Any: ...
    def RawArray(
        self, typecode_or_type: str | type[Any], size_or_initializer: int | Iterable[Any]
    ) -> Any: ...

class SpawnContext(_Objects, _standard.SpawnContext): ...  # type: ignore[misc]
class ForkContext(_Objects, _standard.ForkContext): ...  # type: ignore[misc]
class ForkServerContext(_Objects, _standard.ForkServerContext): ...  # type: ignore[misc]

class DefaultContext(_Objects, _standard.BaseContext):  # type: ignore[misc]
    Process: type[Process]

_default_context: DefaultContext

@overload
def get_context(method: None = None) -> SpawnContext | ForkContext | ForkServerContext: ...
@overload
def get_context(method: Literal["spawn"]) -> SpawnContext: ...
@overload
def get_context(method: Literal["fork"]) -> ForkContext: ...
@overload
def get_context(method: Literal["forkserver"]) -> ForkServerContext: ...
@overload
def get_context(method: str) -> SpawnContext | ForkContext | ForkServerContext: ...
