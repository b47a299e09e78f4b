from collections.abc import Callable, Iterable, Mapping
from multiprocessing import pool as _standard
from multiprocessing.pool import ThreadPool as ThreadPool
from typing import Any, Generic, TypeVar

_S = TypeVar("_S")
_T = TypeVar("_T")

__all__ = ["Pool", "ThreadPool"]

def __getattr__(name: str) -> Any: ...

class IMapIterator(Generic[_T]):
    def __iter__(self) -> IMapIterator[_T]: ...
    def __next__(self) -> _T: ...
    def next(self, timeout: float | None = None) -> _T: ...

class Pool(_standard.Pool):
    def imap(  # type: ignore[override]
        self,
        func: Callable[[_S], _T],
        iterable: Iterable[_S],
        chunksize: int | None = 1,
        *,
        buffersize: int | None = None,
    ) -> IMapIterator[_T]: ...
    def imap_unordered(  # type: ignore[override]
        self,
        func: Callable[[_S], _T],
        iterable: Iterable[_S],
        chunksize: int | None = 1,
        *,
        buffersize: int | None = None,
    ) -> IMapIterator[_T]: ...
