from multiprocessing.connection import Client as Client
from multiprocessing.connection import Listener as Listener
from multiprocessing.connection import _ConnectionBase
from multiprocessing.connection import wait as wait
from typing import Any

__all__ = ["Client", "Connection", "Listener", "Pipe", "wait"]

def __getattr__(name: str) -> Any: ...

class Connection(_ConnectionBase[Any, Any]):
    def __enter__(self) -> Connection: ...

def Pipe(duplex: bool = True) -> tuple[Connection, Connection]: ...
