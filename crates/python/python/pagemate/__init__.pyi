from .multiprocessing.context import get_context as get_context
from .multiprocessing.queues import JoinableQueue as JoinableQueue
from .multiprocessing.queues import Queue as Queue
from .multiprocessing.queues import SimpleQueue as SimpleQueue
from .multiprocessing.sharedctypes import Array as Array
from .multiprocessing.sharedctypes import RawArray as RawArray
from .multiprocessing.sharedctypes import RawValue as RawValue
from .multiprocessing.sharedctypes import Value as Value
from .multiprocessing.synchronize import Barrier as Barrier
from .multiprocessing.synchronize import BoundedSemaphore as BoundedSemaphore
from .multiprocessing.synchronize import Condition as Condition
from .multiprocessing.synchronize import Event as Event
from .multiprocessing.synchronize import Lock as Lock
from .multiprocessing.synchronize import RLock as RLock
from .multiprocessing.synchronize import Semaphore as Semaphore

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
