"""``Pool``, as in ``multiprocessing.pool``, which a killed worker cannot hang.

A task whose worker dies raises ``WorkerDied``; all others run. Results of tasks that were done are
kept. The look-ahead of ``imap`` is bounded.

``ThreadPool`` is the standard library's.
"""

import itertools
import os
import threading
import warnings
from multiprocessing import util
from multiprocessing.pool import (
    ExceptionWithTraceback,
    MaybeEncodingError,
    RemoteTraceback,
    ThreadPool,
    mapstar,
    rebuild_exc,
    starmapstar,
)

from .. import _pagemate
from .errors import WorkerDied
from .handle import Handle
from .pool_engine import CLOSE, RUN, TERMINATE, Engine
from .pool_results import (
    ApplyResult,
    AsyncResult,
    IMapIterator,
    IMapUnorderedIterator,
    MapResult,
    Stream,
)
from .pool_worker import dumps, terminated

__all__ = ["Pool", "ThreadPool"]

INIT = "INIT"

#: Tasks that an ``imap`` without ``buffersize`` takes from its input ahead of the results that are
#: consumed, for each worker.
LOOK_AHEAD = 16
#: Chunks that are pickled at once.
AT_ONCE = 256
#: Inputs whose iterators never wait.
_READY = (list, tuple, range, str, bytes, dict, set, frozenset)


class _Memory(Handle, _pagemate.PoolMemory):
    """The shared memory of a pool, which goes to its workers."""


class Pool:
    """Worker processes that run tasks."""

    @staticmethod
    def Process(ctx, *args, **kwds):
        """Returns a process that is not started."""
        return ctx.Process(*args, **kwds)

    def __init__(
        self, processes=None, initializer=None, initargs=(), maxtasksperchild=None, context=None
    ):
        self._pool, self._state = [], INIT
        if processes is None:
            processes = os.cpu_count() or 1
        if processes < 1:
            raise ValueError("Number of processes must be at least 1")
        if maxtasksperchild is not None:
            if not isinstance(maxtasksperchild, int) or maxtasksperchild <= 0:
                raise ValueError("maxtasksperchild must be a positive int or None")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if context is None:
            from .context import get_context

            context = get_context()
        self._ctx, self._processes = context, processes
        start = self.Process, _Memory(), processes, initializer, initargs, maxtasksperchild
        self._engine = Engine(context, *start)
        self._pool = self._engine.workers
        self._engine.start()
        self._terminate = util.Finalize(self, Engine.terminate, args=(self._engine,), exitpriority=15)
        self._state = RUN

    # The names are bound as defaults because they may be gone when the interpreter exits.
    def __del__(self, _warn=warnings.warn, RUN=RUN):
        if self._state == RUN:
            _warn(f"unclosed running multiprocessing pool {self!r}", ResourceWarning, source=self)

    def __repr__(self):
        cls = type(self)
        return (
            f"<{cls.__module__}.{cls.__qualname__} state={self._state} pool_size={len(self._pool)}>"
        )

    def __reduce__(self):
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")

    def __enter__(self):
        self._check_running()
        return self

    def __exit__(self, *error):
        self.terminate()

    def _check_running(self):
        if self._state != RUN:
            raise ValueError("Pool not running")
        self._engine.check()

    def _repopulate_pool(self):
        self._engine.repopulate()

    def apply(self, func, args=(), kwds={}):
        """Returns ``func(*args, **kwds)``, called in a worker."""
        return self.apply_async(func, args, kwds).get()

    def map(self, func, iterable, chunksize=None):
        """Returns the list of ``func(item)`` for each item."""
        return self.map_async(func, iterable, chunksize).get()

    def starmap(self, func, iterable, chunksize=None):
        """Returns the list of ``func(*item)`` for each item."""
        return self.starmap_async(func, iterable, chunksize).get()

    def apply_async(self, func, args=(), kwds={}, callback=None, error_callback=None):
        """Returns the result of ``apply`` as an ``AsyncResult``."""
        self._check_running()
        engine = self._engine
        batch = engine.tasks.batch("apply", b"", False, 1)
        result = ApplyResult(batch, callback, error_callback)
        engine.add(batch, result)
        engine.submit(batch, result, 0, [(func, args, kwds)], 1)
        return result

    def map_async(self, func, iterable, chunksize=None, callback=None, error_callback=None):
        """Returns the result of ``map`` as an ``AsyncResult``."""
        return self._map_async("map", func, iterable, chunksize, callback, error_callback)

    def starmap_async(self, func, iterable, chunksize=None, callback=None, error_callback=None):
        """Returns the result of ``starmap`` as an ``AsyncResult``."""
        return self._map_async("starmap", func, iterable, chunksize, callback, error_callback)

    def _map_async(self, kind, func, iterable, chunksize, callback, error_callback):
        self._check_running()
        items = iterable if type(iterable) is list else list(iterable)
        if chunksize is None:
            chunksize = max(1, -(-len(items) // (4 * self._processes)))
        _check_chunksize(chunksize)
        engine = self._engine
        batch = engine.tasks.batch(kind, dumps(func), False, len(items))
        result = MapResult(batch, len(items), callback, error_callback)
        if not items:
            result.finish_empty()
            return result
        engine.add(batch, result)
        first = _submit_all(engine, batch, result, items, 0, chunksize, lambda: engine.tasks.wait_for_room(0))
        if first < len(items):
            # Pickling everything now would take too much memory.
            def feed():
                _submit_all(engine, batch, result, items, first, chunksize, lambda: _room(engine))

            _start_feeding(engine, feed)
        return result

    def imap(self, func, iterable, chunksize=1, *, buffersize=None):
        """Returns an iterator of ``func(item)`` for each item, in the order of the items.

        It takes at most ``buffersize`` items more than were returned.
        """
        return IMapIterator(self._imap(func, iterable, chunksize, buffersize, True))

    def imap_unordered(self, func, iterable, chunksize=1, *, buffersize=None):
        """Returns the results of ``imap`` in the order in which they arrive."""
        return IMapUnorderedIterator(self._imap(func, iterable, chunksize, buffersize, False))

    def _imap(self, func, iterable, chunksize, buffersize, ordered):
        self._check_running()
        _check_chunksize(chunksize)
        if buffersize is None:
            buffersize = LOOK_AHEAD * self._processes * chunksize
        elif buffersize < 1:
            raise ValueError(f"Buffersize must be 1+, not {buffersize:n}")
        engine = self._engine
        batch = engine.tasks.batch("imap", dumps(func), True, None)
        stream = Stream(batch, ordered, buffersize)
        engine.add(batch, stream)
        engine.streams.add(stream)
        _start_feeding(engine, lambda: _feed(engine, batch, stream, iterable, chunksize))
        return stream

    def close(self):
        """Lets the workers end once all tasks are done. Takes no more tasks."""
        util.debug("closing pool")
        if self._state == RUN:
            self._state = CLOSE
            self._engine.close()

    def terminate(self):
        """Ends the workers within two seconds, whatever they do."""
        util.debug("terminating pool")
        self._state = TERMINATE
        self._terminate()

    def join(self):
        """Blocks until the workers have ended. Call ``close`` or ``terminate`` before."""
        util.debug("joining pool")
        if self._state == RUN:
            raise ValueError("Pool is still running")
        if self._state not in (CLOSE, TERMINATE):
            raise ValueError("In unknown state")
        self._engine.join()


def _check_chunksize(chunksize):
    if chunksize < 1:
        raise ValueError(f"Chunksize must be 1+, not {chunksize:n}")


def _room(engine):
    while engine.state != TERMINATE and not engine.tasks.wait_for_room(0.1):
        pass
    return engine.state != TERMINATE


def _submit_all(engine, batch, job, items, first, chunksize, has_room):
    """Submits items while there is room. Returns the number of the first that is left."""
    while first < len(items) and has_room():
        some = items[first : first + AT_ONCE * chunksize]
        engine.submit(batch, job, first, some, chunksize)
        first += len(some)
    return first


def _start_feeding(engine, feed):
    """Starts a thread that submits tasks, for which a closed pool waits."""

    def run():
        try:
            feed()
        finally:
            engine.feeding -= 1
            engine.notify()

    engine.feeding += 1
    threading.Thread(target=run, daemon=True).start()


def _feed(engine, batch, stream, iterable, chunksize):
    """Submits the items of an ``imap`` as there is room in its look-ahead."""
    taken, error = 0, None
    is_ready = type(iterable) in _READY
    try:
        iterator = iter(iterable)
        while True:
            room = stream.wait_for_room(taken, lambda: engine.state == TERMINATE)
            if not room or not _room(engine):
                raise terminated()
            chunks = max(1, room // chunksize) if is_ready else 1
            items = list(itertools.islice(iterator, chunks * chunksize))
            if not items:
                break
            engine.submit(batch, stream, taken, items, chunksize)
            taken += len(items)
    except BaseException as raised:
        error = raised
    finally:
        engine.streams.discard(stream)
        stream.end(taken, error)
        engine.tasks.set_total(batch, taken)
