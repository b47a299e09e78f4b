"""What runs in a worker of a ``Pool``, and how exceptions travel from there."""

import io
import threading
from multiprocessing import pool as _standard
from multiprocessing import reduction, util

from .errors import ProcessError, WorkerDied

__all__ = ["dumps", "loads", "lost", "unpack_error", "work"]

loads = reduction.ForkingPickler.loads

#: The protocol of tasks and results: 5 copies a large buffer once less than 4.
PROTOCOL = 5

_local = threading.local()


def dumps(obj):
    """Returns the pickle of ``obj``, by the reducers that are registered."""
    # A pickler costs more than the pickle of a small object, so it is kept. An object that pickles
    # something while it is pickled gets another one.
    pickler, buffer = _local.__dict__.pop("pickler", None) or _new_pickler()
    try:
        pickler.dump(obj)
        result = buffer.getvalue()
    finally:
        pickler.clear_memo()
    if len(result) <= 1 << 16:
        buffer.seek(0)
        buffer.truncate()
        _local.pickler = pickler, buffer
    return result


def _new_pickler():
    buffer = io.BytesIO()
    return reduction.ForkingPickler(buffer, PROTOCOL), buffer


def _pack(error, text):
    """Returns the bytes of an exception that is raised where its bytes arrive."""
    text = f'\n"""\n{text}"""'
    try:
        pickle = dumps(error)
        loads(pickle)  # there are exceptions that can be pickled and not unpickled
    except Exception as reason:
        standing_in = _standard.MaybeEncodingError(reason, error)
        pickle = dumps(standing_in)
    return dumps((pickle, repr(error), text))


def _traceback(error):
    import traceback

    return "".join(traceback.format_exception(type(error), error, error.__traceback__))


def pack_error(error):
    """Returns the bytes of the exception of a task."""
    return _pack(error, _traceback(error))


def pack_failure(reason, result):
    """Returns the bytes of an exception for a result that cannot be pickled."""
    error = _standard.MaybeEncodingError(reason, result)
    util.debug("Possible encoding error while sending result: %s", error)
    return _pack(error, _traceback(reason))


def unpack_error(packed):
    """Returns the exception that a worker has packed, with the worker's traceback as its cause."""
    pickle, representation, text = loads(packed)
    try:
        error = loads(pickle)
    except Exception as reason:
        error = _standard.MaybeEncodingError(reason, representation)
    if not isinstance(error, BaseException):
        error = _standard.MaybeEncodingError(TypeError("it unpickles to another object"), representation)
    error.__cause__ = _standard.RemoteTraceback(text)
    return error


class Ended(Exception):
    """Stands for the reason why a pool ended before a task was done."""


def terminated():
    """Returns the exception of tasks that are not done when a pool is terminated."""
    return ProcessError("the pool was terminated before the task was done")


def lost(pid, exitcode, text):
    """Returns the exception of a task whose worker died, or whose bytes were lost."""
    if pid:
        return WorkerDied(exitcode, pid)
    return Ended() if exitcode is None else MemoryError(text)


def work(memory, index, initializer, initargs, maxtasks):
    """Runs worker number ``index``: initialises it, and runs tasks until the pool is closed."""
    worker = memory.worker(index)
    if initializer is not None:
        try:
            initializer(*initargs)
        except BaseException as error:
            memory.leave_error(index, pack_error(error))
            raise
    del initializer, initargs
    worker.begin()
    completed = 0
    while maxtasks is None or completed < maxtasks:
        try:
            if not worker.run(loads, dumps, pack_error, pack_failure):
                break
        except KeyboardInterrupt:
            continue  # without a task: the pool's process decides what Ctrl-C means
        completed += 1
    util.debug("worker exiting after %d chunks", completed)
