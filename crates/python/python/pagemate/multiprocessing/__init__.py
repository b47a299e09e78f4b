"""A drop-in for ``multiprocessing``: its names, with pagemate's objects behind them.

Names that are not pagemate's yet are the standard library's; docs/python.md lists them.
"""

import multiprocessing as _standard
from multiprocessing import (
    AuthenticationError,
    BufferTooShort,
    ProcessError,
    TimeoutError,
    active_children,
    allow_connection_pickling,
    cpu_count,
    current_process,
    freeze_support,
    get_logger,
    log_to_stderr,
    parent_process,
    reducer,
    set_executable,
    set_forkserver_preload,
)

from . import connection, context, pool, process, queues, reduction, sharedctypes, synchronize
from .context import Process, _default_context
from .errors import WorkerDied

_OWN = [
    "Array",
    "Barrier",
    "BoundedSemaphore",
    "Condition",
    "Event",
    "JoinableQueue",
    "Lock",
    "Manager",
    "Pipe",
    "Pool",
    "Queue",
    "RLock",
    "RawArray",
    "RawValue",
    "Semaphore",
    "SimpleQueue",
    "Value",
    "get_all_start_methods",
    "get_context",
    "get_start_method",
    "set_start_method",
]
globals().update((name, getattr(_default_context, name)) for name in _OWN)

__all__ = [name for name in _standard.__all__ if name in globals()]
