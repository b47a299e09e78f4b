"""``Pool`` without deaths."""

import enum
import functools
import itertools
import math
import os
import pickle
import sys
import threading
import time

import pytest
from conftest import LONG, until
from pagemate.multiprocessing import ProcessError, TimeoutError, pool
from pagemate.multiprocessing.pool import MaybeEncodingError, RemoteTraceback


@pytest.fixture
def workers(context):
    with context.Pool(2) as workers:
        yield workers


@pytest.fixture
def forked():
    """A pool for what does not depend on the start method."""
    import pagemate

    with pagemate.get_context("fork").Pool(2) as forked:
        yield forked


def square(x):
    return x * x


def add(x, y=0, *, z=0):
    return x + y + z


def fail(x):
    raise ValueError(x)


def fail_at_three(x):
    if x == 3:
        raise ValueError("three")
    return x


def test_each_call(workers):
    assert workers.apply(add, (1,), {"y": 2, "z": 3}) == 6
    assert workers.map(square, range(100)) == [x * x for x in range(100)]
    assert workers.map(square, iter(range(10)), 3) == [x * x for x in range(10)]
    assert workers.starmap(add, [(1, 2), [3, 4], range(5, 7)], 2) == [3, 7, 11]
    assert workers.apply_async(add, (1, 2)).get(LONG) == 3
    assert workers.map_async(square, [3]).get(LONG) == [9]
    assert workers.starmap_async(add, [(3, 4)]).get(LONG) == [7]
    for size in (1, 7):
        assert list(workers.imap(square, range(50), size)) == [x * x for x in range(50)]
        assert sorted(workers.imap_unordered(square, range(50), size)) == [x * x for x in range(50)]
    workers.close()
    workers.join()
    for call in workers.map, workers.imap, workers.apply:
        with pytest.raises(ValueError, match="not running"):
            call(square, [1])


class Colour(enum.IntEnum):
    RED = 1


VALUES = [
    None, True, False, 0, -1, 2**63 - 1, -(2**63), 2**63, -(2**200), 1.5, -0.0, math.inf, "", "é\0",
    "\ud800", b"", b"\0x", (), (1, ("a", (b"b", (None, (2, (3,)))))), tuple(range(300)), [1], {"a": 1},
    {1, 2}, frozenset([3]), Colour.RED, bytearray(b"x"), 1j, range(3), square, len, int,
]  # fmt: skip


def identity(x):
    return x


@pytest.mark.parametrize("size", [1, len(VALUES)])
def test_values_come_back_equal_and_of_the_same_type(forked, size):
    for got, value in zip(forked.map(identity, VALUES, size), VALUES):
        assert got == value and type(got) is type(value)
    for value in VALUES:  # not beside any of another type
        assert forked.map(identity, [value] * 3, size) == [value] * 3
        assert forked.apply(identity, (value,)) == value
    assert math.isnan(forked.apply(identity, (math.nan,)))
    assert math.copysign(1, forked.apply(identity, (-0.0,))) == -1


def are_same(pair):
    return pair[0] is pair[1]


def length(shared, n):
    return len(shared) + n


def test_a_chunk_is_pickled_as_a_whole(forked):
    shared = [0] * 1000
    assert forked.starmap(length, zip(itertools.repeat(shared), range(100)), 100) == [*range(1000, 1100)]
    assert forked.map(are_same, [(shared, shared)] * 3, 3) == [True] * 3


class Counter:
    """A function with a state."""

    def __init__(self):
        self.calls = 0

    def __call__(self, _):
        self.calls += 1
        return self.calls


def test_a_function_with_a_state_starts_anew_in_each_chunk(forked):
    assert forked.map(Counter(), range(6), 1) == [1] * 6
    assert forked.map(Counter(), range(6), 3) == [1, 2, 3] * 2
    assert forked.map(functools.partial(add, 1), range(3)) == [1, 2, 3]


def test_arguments_are_checked(context):
    for processes in (0, -1):
        with pytest.raises(ValueError, match="at least 1"):
            context.Pool(processes)
    for limit in (0, -1, 0.5, "12"):
        with pytest.raises(ValueError, match="maxtasksperchild"):
            context.Pool(1, maxtasksperchild=limit)
    with pytest.raises(TypeError, match="callable"):
        context.Pool(1, initializer=1)


def test_calls_are_checked(forked):
    for call in forked.map, forked.starmap, forked.imap, forked.imap_unordered:
        for size in (0, -1):
            with pytest.raises(ValueError, match="Chunksize must be 1"):
                call(square, [1, 2], size)
    with pytest.raises(ValueError, match="Buffersize must be 1"):
        forked.imap(square, [1], buffersize=0)
    with pytest.raises(ValueError, match="still running"):
        forked.join()
    with pytest.raises(NotImplementedError):
        pickle.dumps(forked)
    with pytest.raises(ValueError, match="not ready"):
        forked.apply_async(time.sleep, (0.1,)).successful()
    assert forked.map(square, []) == [] and list(forked.imap(square, [])) == []
    assert repr(forked).endswith("Pool state=RUN pool_size=2>")


def test_exceptions(workers):
    with pytest.raises(ValueError, match="three") as caught:
        workers.map(fail_at_three, range(10), 5)
    cause = caught.value.__cause__
    assert type(cause) is RemoteTraceback and 'raise ValueError("three")' in str(cause)
    with pytest.raises(ValueError) as caught:
        workers.map(fail, [5, 4, 3], 1)
    assert caught.value.args == (5,), "the first in the order of the input"
    for size in (1, 3):
        results = workers.imap(fail_at_three, range(6), size)
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(ValueError, match="three"):
            next(results)
        assert list(results) == [4, 5]
    failed = workers.apply_async(fail, (1,))
    failed.wait(LONG)
    assert failed.ready() and not failed.successful()


def note(values, x):
    values[x] = 1
    return fail_at_three(x)


def note_init(values):
    global _values
    _values = values


def note_item(x):
    return note(_values, x)


def test_a_map_leaves_a_chunk_at_its_first_exception(context):
    values = context.Array("i", 8, lock=False)
    with context.Pool(1, note_init, (values,)) as workers:
        with pytest.raises(ValueError, match="three"):
            workers.map(note_item, [0, 3, 1, 2, 4, 5, 6, 7], 4)
    assert values[:] == [1, 0, 0, 1, 1, 1, 1, 1]


class Stop(BaseException):
    pass


class NeedsTwo(Exception):
    """Can be pickled, but not unpickled."""

    def __init__(self, a, b):
        super().__init__(a)


class Unpicklable(Exception):
    def __reduce__(self):
        raise RuntimeError("no pickle")


def interrupt():
    raise KeyboardInterrupt


def stop():
    raise Stop("stop")


def leave():
    sys.exit("leaves")


def need_two():
    raise NeedsTwo(1, 2)


def be_unpicklable():
    raise Unpicklable("what it says")


def end_iteration():
    raise StopIteration("end")


@pytest.mark.parametrize(
    "task, kind, text",
    [
        (interrupt, KeyboardInterrupt, "^$"),
        (stop, Stop, "stop"),
        (leave, SystemExit, "leaves"),
        (end_iteration, StopIteration, "end"),
        (need_two, MaybeEncodingError, "NeedsTwo"),
        (be_unpicklable, MaybeEncodingError, "what it says"),
    ],
)
def test_every_exception_arrives(forked, task, kind, text):
    pids = {worker.pid for worker in forked._pool}
    with pytest.raises(kind, match=text) as caught:
        forked.apply_async(task).get(1)
    assert task.__name__ in str(caught.value.__cause__)
    assert {worker.pid for worker in forked._pool} == pids, "the workers live on"
    assert forked.apply(square, (3,)) == 9


class LocalOnly:
    """Cannot be unpickled in the pool's process."""

    def __reduce__(self):
        return only_in, (os.getpid(),)


def only_in(pid):
    if pid != os.getpid():
        raise LookupError("lives elsewhere")
    return LocalOnly()


def test_results_that_do_not_travel(forked):
    with pytest.raises(MaybeEncodingError, match="lambda"):
        forked.apply(eval, ("lambda: 0",))
    with pytest.raises(LookupError, match="lives elsewhere"):
        forked.apply(LocalOnly)
    results = forked.imap(eval, ["1", "lambda: 0", "3"])
    assert next(results) == 1
    with pytest.raises(MaybeEncodingError):
        next(results)
    assert next(results) == 3


def test_tasks_that_do_not_travel(forked):
    lock = threading.Lock()
    with pytest.raises(TypeError, match="pickle"):
        forked.apply(identity, (lock,))
    with pytest.raises(TypeError, match="pickle"):
        forked.map(identity, [1, lock, 2], 1)
    with pytest.raises(TypeError, match="pickle"):
        forked.apply(lock.acquire)
    results = forked.imap(identity, [1, lock, 2])
    assert next(results) == 1
    with pytest.raises(TypeError, match="pickle"):
        next(results)
    assert next(results) == 2
    with pytest.raises(LookupError, match="lives elsewhere"):
        forked.map(identity, [1, LocalOnly()], 2)
    assert forked.map(identity, [1, 2]) == [1, 2]


def test_callbacks(forked):
    called = []
    forked.map_async(square, [1, 2], callback=called.append).wait(LONG)
    forked.apply_async(fail, ("no",), callback=called.append, error_callback=called.append).wait(LONG)
    assert called[0] == [1, 4] and called[1].args == ("no",) and len(called) == 2


def test_a_callback_that_raises_hangs_nothing(forked, monkeypatch):
    reported = []
    monkeypatch.setattr(threading, "excepthook", reported.append)

    def raises(_):
        raise KeyError("in the callback")

    assert forked.apply_async(square, (2,), callback=raises).get(LONG) == 4
    assert forked.apply(square, (3,)) == 9
    assert [args.exc_value.args for args in reported] == [("in the callback",)]


def test_timeouts(forked):
    slow = forked.apply_async(time.sleep, (0.5,))
    with pytest.raises(TimeoutError):
        slow.get(0.01)
    results = forked.imap(time.sleep, [0.5])
    with pytest.raises(TimeoutError):
        results.next(0.01)
    assert results.next(LONG) is None and slow.get(LONG) is None
    with pytest.raises(StopIteration):
        results.next()


def count(taken):
    for n in itertools.count():
        taken.append(n)
        yield n


def test_imap_takes_no_more_than_its_look_ahead(forked):
    kept = []  # the tasks of one that is dropped run on
    for call, size in itertools.product([forked.imap, forked.imap_unordered], [1, 3]):
        taken = []
        results = call(square, count(taken), size, buffersize=6)
        for consumed in range(300):
            next(results)
            assert len(taken) <= consumed + 1 + 6
        kept.append(results)
    taken = []
    results = forked.imap(square, count(taken))
    next(results)
    assert len(taken) <= 1 + 2 * pool.LOOK_AHEAD


def make(n):
    return bytes(n)


def rss():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_an_endless_imap_needs_bounded_memory(forked):
    results = forked.imap(make, itertools.repeat(100_000))
    for _ in range(300):
        next(results)
    before = rss()
    for _ in range(1000):
        next(results)
    assert rss() - before < 20_000_000


def late(n):
    yield from range(n)
    raise OSError("the input ends here")


def test_an_input_that_raises(forked):
    with pytest.raises(OSError, match="input ends"):
        forked.map(square, late(3))
    for size, before in [(1, 5), (2, 4)]:
        results = forked.imap(square, late(5), size)
        assert [next(results) for _ in range(before)] == [x * x for x in range(before)]
        with pytest.raises(OSError, match="input ends") as caught:
            next(results)
        assert caught.value.__cause__ is None
        with pytest.raises(StopIteration):
            next(results)
    with pytest.raises(TypeError, match="not iterable"):
        next(forked.imap(square, 5))


def test_join_waits_for_tasks_whose_results_nobody_wants(context):
    values = context.Array("i", 500, lock=False)
    with context.Pool(2, note_init, (values,)) as workers:
        kept = workers.imap(note_item, range(200))
        workers.imap_unordered(note_item, range(200, 400))
        workers.map_async(note_item, range(400, 500), 1)
        workers.close()
        workers.join()
        assert values[:] == [1] * 500
        assert [next(kept) for _ in range(3)] == [0, 1, 2]


def pid(_=None):
    time.sleep(0.001)
    return os.getpid()


def test_workers_retire(context):
    with context.Pool(2, maxtasksperchild=3) as workers:
        pids = workers.map(pid, range(24), 2)  # 12 chunks, 3 for each worker
        assert len(set(pids)) >= 4 and all(pids.count(one) <= 6 for one in pids)
        workers.close()
        workers.join()


def test_more_arguments_than_memory_for_them(forked):
    """They are pickled as the workers take them."""
    total = forked.map(len, [bytearray(1 << 20)] * 100, 1)
    assert total == [1 << 20] * 100
    large = forked.map_async(len, [bytearray(1 << 20)] * 300, 1)
    assert forked.apply(square, (3,)) == 9
    forked.close()
    forked.join()
    assert large.get() == [1 << 20] * 300


@pytest.mark.parametrize("size", [0, 60, 5_000, 20_000_000])
def test_arguments_and_results_of_any_length(workers, size):
    assert workers.map(bytes, [size] * 3, 3) == [bytes(size)] * 3
    assert workers.map(bytearray.__len__, [bytearray(size)] * 3, 3) == [size] * 3


def test_many_tasks_at_once(workers):
    n = 20_000
    results = [workers.apply_async(square, (x,)) for x in range(n)]
    assert workers.map(square, range(n), 1) == [x * x for x in range(n)]
    assert [result.get(LONG) for result in results] == [x * x for x in range(n)]


def test_from_several_threads(forked):
    outcomes = []

    def use(first):
        outcomes.append(forked.map(square, range(first, first + 1000), 7) == [
            x * x for x in range(first, first + 1000)
        ])

    threads = [threading.Thread(target=use, args=(1000 * n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert outcomes == [True] * 8


def fork_and_return(x):
    if os.fork() == 0:
        return "the child's"
    os.wait()
    return x


def test_a_task_that_forks_returns_once(forked):
    assert forked.map(fork_and_return, range(20), 1) == [*range(20)]


def test_tasks_without_a_result_when_the_pool_is_terminated(context):
    workers = context.Pool(1)
    running, waiting = workers.apply_async(time.sleep, (LONG,)), workers.map_async(square, [1])
    results = workers.imap(time.sleep, itertools.repeat(LONG))
    workers.terminate()
    workers.join()
    for call in running.get, waiting.get, results.next:
        with pytest.raises(ProcessError, match="terminated"):
            call(LONG)
    workers.terminate()


def test_a_callback_may_terminate_the_pool(context):
    workers = context.Pool(1)
    workers.apply_async(square, (2,), callback=lambda _: workers.terminate()).get(LONG)
    workers.join()


def test_a_forgotten_pool_warns_and_ends():
    import gc

    import pagemate

    workers = pagemate.get_context("fork").Pool(1)
    (worker,) = workers._pool
    with pytest.warns(ResourceWarning, match="unclosed running multiprocessing pool"):
        del workers
        gc.collect()
    until(lambda: worker.exitcode is not None)


def test_a_pool_leaves_nothing(context):
    def descriptors():
        return len(os.listdir("/proc/self/fd"))

    def use():
        with context.Pool(2) as workers:
            workers.map(square, range(10))
        workers.join()

    use()  # a fork server stays
    before, threads = descriptors(), threading.active_count()
    use()
    until(lambda: descriptors() == before and threading.active_count() == threads)
