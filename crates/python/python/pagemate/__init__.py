"""multiprocessing in shared memory, which a killed process cannot hang.

Change one import::

    import pagemate.multiprocessing as multiprocessing

or pass ``pagemate.get_context("spawn")`` where a context is wanted.
"""

from .multiprocessing.context import get_context
from .multiprocessing.queues import JoinableQueue, Queue, SimpleQueue
from .multiprocessing.sharedctypes import Array, RawArray, RawValue, Value
from .multiprocessing.synchronize import Barrier, BoundedSemaphore, Condition, Event, Lock, RLock, Semaphore

__all__ = [
    "Array",
    "Barrier",
    "BoundedSemaphore",
    "Condition",
    "Event",
    "JoinableQueue",
    "Lock",
    "Queue",
    "RLock",
    "RawArray",
    "RawValue",
    "Semaphore",
    "SimpleQueue",
    "Value",
    "get_context",
]
