"""``Manager`` without deaths."""

import array
import collections
import copy
import dataclasses
import datetime
import decimal
import enum
import fractions
import gc
import multiprocessing.managers
import pickle
import queue
import subprocess
import sys
import threading

import pagemate
import pagemate.multiprocessing
import pytest
from conftest import LONG, ended, until
from pagemate.multiprocessing import managers, proxies
from pagemate.multiprocessing.managers import RemoteError, SyncManager


@pytest.fixture
def manager(context):
    with context.Manager() as manager:
        yield manager


@pytest.fixture
def local():
    """A manager for what does not depend on the start method."""
    with pagemate.get_context("fork").Manager() as local:
        yield local


def use_dict(shared, done):
    assert shared["a"] == 1 and shared.get("b") is None
    shared["b"] = [1, 2]
    shared["nested"]["x"] = "from the child"
    done.set()


def test_dict_in_a_child(manager, start):
    shared, done = manager.dict(a=1), manager.Event()
    shared["nested"] = manager.dict()
    ended(start(manager._ctx, use_dict, shared, done))
    assert done.is_set()
    assert shared["b"] == [1, 2] and shared["nested"].copy() == {"x": "from the child"}
    assert shared.keys() == ["a", "nested", "b"]


def test_dict_is_a_dict(local):
    shared, twin = local.dict({"a": 1}, b=2), {"a": 1, "b": 2}
    for one in shared, twin:
        one["c"] = 3
        one["a"] = None
        one.update({"d": 4}, e=5)
        one.update([("f", 6)])
        del one["b"]
        assert one.pop("c") == 3 and one.pop("zz", 7) == 7
        assert one.setdefault("a", 1) is None and one.setdefault("g", 8) == 8
        assert one.get("a", 9) is None and one.get("zz", 9) == 9
        assert "a" in one and "zz" not in one and len(one) == 5
        assert list(one.keys()) == list(one) == ["a", "d", "e", "f", "g"]
        assert list(one.values()) == [None, 4, 5, 6, 8]
        assert one.popitem() == ("g", 8)
    assert shared.copy() == twin and shared.items() == list(twin.items())
    assert str(shared) == str(twin) and type(shared.keys()) is list
    shared.clear()
    assert len(shared) == 0 and not shared
    for call in shared.__getitem__, shared.__delitem__, shared.pop:
        with pytest.raises(KeyError) as caught:
            call("missing")
        assert caught.value.args == ("missing",)
    with pytest.raises(KeyError, match="empty"):
        shared.popitem()
    with pytest.raises(TypeError):
        shared.pop()
    with pytest.raises(ValueError):
        shared.update(["abc"])


class Colour(enum.IntEnum):
    RED = 1


class Side(enum.Enum):
    LEFT = 1


class Name(str):
    pass


class Pair(collections.namedtuple("Pair", "a b")):
    pass


@dataclasses.dataclass(frozen=True)
class Point:
    x: float
    tags: frozenset = frozenset()


EQUAL_KEYS = [
    (1, 1.0, True, Colour.RED, decimal.Decimal(1), fractions.Fraction(1), 1 + 0j),
    (0, -0.0, False, 0j),
    (0.5, decimal.Decimal("0.5"), fractions.Fraction(1, 2)),
    (2**70, float(2**70), decimal.Decimal(2**70)),
    (-(2**63), float(-(2**63))),
    ("name", Name("name")),
    ((1, "a"), (1.0, "a"), Pair(True, "a")),
    (frozenset([1, "a"]), frozenset(["a", 1.0])),
    (range(0, 10, 3), range(0, 12, 3)),
    (float("inf"), decimal.Decimal("inf")),
    (Side.LEFT,),
    (None,),
    (b"name",),
    ("\ud800",),
    (1j,),
    (decimal.Decimal("0.1"),),
    (0.1,),
    (fractions.Fraction(1, 3),),
    (Point(1.0, frozenset("ab")), Point(1.0, frozenset("ba"))),
    (datetime.date(2026, 1, 2), datetime.date(2026, 1, 2)),
    (len,),
    (int,),
    ((),),
    (((1, (2,)), b""),),
]


def test_keys_are_compared_as_in_python(local):
    shared, twin = local.dict(), {}
    for number, keys in enumerate(EQUAL_KEYS):
        for key in keys:
            shared[key] = twin[key] = number
    assert len(shared) == len(twin) == len(EQUAL_KEYS)
    for number, keys in enumerate(EQUAL_KEYS):
        for key in keys:
            assert shared[key] == number and key in shared
    for key, expected in zip(shared.keys(), twin):
        assert key == expected and type(key) is type(expected), "the first of equal keys stays"
    assert 2 not in shared and "nam" not in shared and (1,) not in shared and (1, b"a") not in shared
    for key in ([], {}, (1, []), {1}):
        for call in shared.__getitem__, shared.__contains__, shared.get, shared.pop:
            with pytest.raises(TypeError, match="unhashable"):
                call(key)
    nan = float("nan")
    shared[nan] = "nan"
    assert shared[-nan] == "nan"


def find(shared, number):
    assert shared[Point(2.5, frozenset("xyz"))] == shared["k", frozenset("pqr")] == number


def test_keys_are_the_same_in_other_processes(manager, start):
    """Although hashes of strings, and so the order of sets, are not."""
    shared = manager.dict({Point(2.5, frozenset("zyx")): 5, ("k", frozenset("rqp")): 5})
    for _ in range(3):
        ended(start(manager._ctx, find, shared, 5))


def test_list_is_a_list(local):
    shared, twin = local.list(range(5)), list(range(5))
    for one in shared, twin:
        one.append("x")
        one.extend(iter([3, 3.0]))
        one.insert(1, None)
        one.insert(-1, "before the last")
        one.insert(100, "last")
        one[0] = (1, 2)
        one[-2] = b"y"
        one[2:4] = ["a", "b", "c"]
        del one[5]
        del one[-1]
        assert one.pop() == b"y" and one.pop(0) == (1, 2) and one.pop(-1) == "before the last"
        assert one.count(3) == 1 and one.index("x") == 5 and "b" in one and "zz" not in one
        one.remove("b")
        one.reverse()
        one *= 2
        one += [7]
        assert len(one) == 13 and one[3] == "c"
        assert one[1:5:2] == list(one)[1:5:2]
        assert list(reversed(one)) == list(one)[::-1]
        assert one * 2 == 2 * one and one + [1] == list(one) + [1]
        del one[::2]
    assert shared[:] == twin and list(shared) == twin and str(shared) == str(twin)
    numbers = local.list([3, 1, 2])
    numbers.sort()
    assert numbers[:] == [1, 2, 3]
    numbers.sort(key=lambda x: -x)
    assert numbers[:] == [3, 2, 1]
    numbers.sort(reverse=True)
    for bad in (3, -4):
        for call in (
            lambda: numbers[bad], lambda: numbers.pop(bad), lambda: numbers.__setitem__(bad, 1),
            lambda: numbers.__delitem__(bad),
        ):  # fmt: skip
            with pytest.raises(IndexError):
                call()
    with pytest.raises(ValueError):
        numbers.remove(9)
    with pytest.raises(TypeError):
        local.list([1, "a"]).sort()
    with pytest.raises(IndexError, match="empty"):
        local.list().pop()
    assert local.list([local.list([1])])[0][0] == 1
    numbers.clear()
    assert numbers.copy() == []


def test_values_are_copies(local):
    inner = [1]
    shared = local.dict(a=inner)
    inner.append(2)
    shared["a"].append(3)
    assert shared["a"] == [1]


def append_some(shared, count):
    for n in range(count):
        shared.append(n)
        shared.reverse()


def test_changes_of_a_list_are_not_lost(manager, start):
    shared = manager.list()
    children = [start(manager._ctx, append_some, shared, 100) for _ in range(3)]
    for child in children:
        ended(child)
    assert sorted(shared) == sorted([*range(100)] * 3)


def test_namespace(local):
    space = local.Namespace(x=1, keys=2)
    space.y = [3]
    space._own = 4
    assert (space.x, space.keys, space.y, space._own) == (1, 2, [3], 4)
    assert str(space) == "Namespace(keys=2, x=1, y=[3])"
    again = pickle.loads(pickle.dumps(space))
    assert again.y == [3] and not hasattr(again, "_own")
    del again.x
    with pytest.raises(AttributeError, match="no attribute 'x'"):
        space.x
    with pytest.raises(AttributeError):
        del space.x
    assert copy.deepcopy(space).keys == 2 and space._getvalue().y == [3]


def test_value_and_array(local):
    value = local.Value("i", 1)
    value.value += 1
    value.set({"any": "object"})
    assert value.get() == value.value == {"any": "object"}
    assert str(local.Value("i", 7)) == "Value('i', 7)"
    numbers = local.Array("h", [1, 2, 3])
    numbers[1] = -5
    numbers[-1] += 1
    assert list(numbers) == [1, -5, 4] and len(numbers) == 3 and str(numbers) == "array('h', [1, -5, 4])"
    assert numbers[1:] == array.array("h", [-5, 4])
    numbers[::2] = array.array("h", [8, 9])
    assert list(numbers) == [8, -5, 9]
    for error, index, new in [
        (IndexError, 3, 1), (OverflowError, 0, 2**15), (TypeError, 0, "a"), (TypeError, slice(2), [1]),
        (ValueError, slice(2), array.array("h")),
    ]:  # fmt: skip
        with pytest.raises(error):
            numbers[index] = new
    assert list(numbers) == [8, -5, 9]
    assert list(local.Array("d", [])) == []


def test_queue(local):
    box = local.Queue(2)
    box.put("a")
    box.put({"b": 1}, timeout=1)
    assert box.full() and box.qsize() == 2
    for call in (lambda: box.put(1, timeout=0.01), lambda: box.put_nowait(1)):
        with pytest.raises(queue.Full):
            call()
    assert (box.get(), box.get(timeout=1)) == ("a", {"b": 1})
    assert box.empty()
    for call in (lambda: box.get(timeout=0.01), box.get_nowait):
        with pytest.raises(queue.Empty):
            call()
    with pytest.raises(ValueError, match="non-negative"):
        box.get(timeout=-1)
    box.task_done()
    box.task_done()
    box.join()
    with pytest.raises(ValueError, match="too many times"):
        box.task_done()
    with pytest.raises(TypeError):
        box.put(threading.Lock())
    assert box.empty()


def work(jobs, done):
    while (job := jobs.get()) is not None:
        done.append(job)
        jobs.task_done()
    jobs.task_done()


def test_queue_of_several_processes(manager, start):
    jobs, done = manager.JoinableQueue(), manager.list()
    children = [start(manager._ctx, work, jobs, done) for _ in range(2)]
    for n in range(50):
        jobs.put(n)
    jobs.join()
    assert sorted(done) == list(range(50))
    for _ in children:
        jobs.put(None)
    for child in children:
        ended(child)


def test_locks(local):
    for lock in local.Lock(), local.Semaphore(1), local.BoundedSemaphore(1):
        assert lock.acquire() and not lock.acquire(False) and not lock.acquire(True, 0.01)
        lock.release()
        with lock as acquired:
            assert acquired and not lock.acquire(blocking=False)
    with pytest.raises(RuntimeError, match="unlocked"):
        local.Lock().release()
    with pytest.raises(RuntimeError, match="un-acquired"):
        local.RLock().release()
    with pytest.raises(ValueError, match="too many times"):
        local.BoundedSemaphore(2).release()
    with pytest.raises(ValueError, match=">= 0"):
        local.Semaphore(-1)
    again = local.RLock()
    with again, again:
        outcome = []
        other = threading.Thread(target=lambda: outcome.append(again.acquire(False)))
        other.start()
        other.join()
        assert outcome == [False]


def test_event_and_barrier(local):
    event, barrier = local.Event(), local.Barrier(2)
    assert not event.is_set() and not event.wait(0.01)
    event.set()
    assert event.wait() and event.is_set()
    event.clear()
    assert not event.is_set()
    indices = []
    other = threading.Thread(target=lambda: indices.append(barrier.wait(LONG)))
    other.start()
    indices.append(barrier.wait(LONG))
    other.join()
    assert sorted(indices) == [0, 1] and barrier.parties == 2 and barrier.n_waiting == 0
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait(0.01)
    assert barrier.broken
    barrier.reset()
    assert not barrier.broken
    barrier.abort()
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait()


def test_condition(local):
    for condition in local.Condition(), local.Condition(local.Lock()):
        woken = []

        def wait():
            with condition:
                woken.append(0)
                woken.append(condition.wait(LONG))

        waiter = threading.Thread(target=wait)
        waiter.start()
        until(lambda: woken)
        with condition:
            condition.notify()
        waiter.join()
        assert woken == [0, True]
        with condition:
            assert not condition.wait(0.01)
            assert condition.wait_for(lambda: 0, 0.01) == 0
            condition.notify_all()
        for call in condition.wait, condition.notify:
            with pytest.raises(RuntimeError):
                call()
    with pytest.raises(TypeError, match="same manager"):
        local.Condition(threading.Lock())


def test_proxies_look_like_those_of_multiprocessing(local):
    classes = {
        local.dict: "DictProxy", local.list: "ListProxy", local.Namespace: "NamespaceProxy",
        local.Lock: "AcquirerProxy", local.RLock: "AcquirerProxy", local.Semaphore: "AcquirerProxy",
        local.Event: "EventProxy", local.Condition: "ConditionProxy",
    }  # fmt: skip
    for make, name in classes.items():
        proxy = make()
        assert isinstance(proxy, getattr(multiprocessing.managers, name))
        assert isinstance(proxy, managers.BaseProxy)
        assert repr(proxy).startswith(f"<{type(proxy).__name__} object, typeid {make.__name__!r} at 0x")
        assert isinstance(str(proxy), str)
        for method in proxy._exposed_:
            assert method == "__getattribute__" or hasattr(proxy, method)
    shared = local.dict(a=1)
    assert shared._callmethod("get", ("a",)) == 1 and shared._callmethod("__repr__") == "{'a': 1}"
    assert shared._getvalue() == {"a": 1} and shared != {"a": 1}
    with pytest.raises(RemoteError, match="not in exposed"):
        shared._callmethod("__class__")
    assert copy.deepcopy(shared) == {"a": 1}
    assert copy.copy(shared).copy() == {"a": 1}
    assert list(local.list([1, 2])._callmethod("__getitem__", (slice(None),))) == [1, 2]


def test_proxies_travel_by_any_way(manager, start):
    """Also when the sender has no other reference."""
    box, pipe = manager.Queue(), manager._ctx.Pipe()
    box.put(manager.list(["in a queue"]))
    assert box.get()[0] == "in a queue"
    pipe[0].send(manager.list(["in a pipe"]))
    assert pipe[1].recv()[0] == "in a pipe"
    with manager._ctx.Pool(1) as pool:
        assert pool.apply(first, (manager.list(["to a worker"]),)) == "to a worker"
        shared = manager.dict()
        returned = pool.apply(make_here, (shared,))
        assert shared["made"][0] == returned[0] == "of a worker"
    gc.collect()
    until(lambda: manager._number_of_objects() == 3)  # the queue, the dict and the list in it


def first(shared):
    return shared[0]


def make_here(shared):
    """Returns a proxy that is made in this process, and drops all others."""
    made = shared._hold.memory.create(proxies.ListProxy)
    made.append("of a worker")
    shared["made"] = made
    return made


def test_nested_proxies(local):
    shared = local.dict()
    shared["list"] = local.list([1])
    shared["list"].append(2)
    shared["deep"] = [local.dict(x=local.Namespace(y=5))]
    gc.collect()
    assert shared["list"][:] == [1, 2] and shared["deep"][0]["x"].y == 5
    outer = local.list([shared])
    outer[0]["list"].append(3)
    assert shared["list"][:] == [1, 2, 3]
    shared["self"] = shared
    assert shared["self"]["self"]["list"][2] == 3


def test_objects_are_freed(local):
    def objects():
        gc.collect()
        return local._number_of_objects()

    kept = local.dict()
    for make in (
        local.dict, local.list, local.Namespace, local.Lock, local.RLock, local.Semaphore, local.Event,
        local.Queue, local.Condition, lambda: local.Barrier(2), lambda: local.Value("i", 1),
        lambda: local.Array("i", [1, 2]),
    ):  # fmt: skip
        make()
        assert objects() == 1
    kept["x"] = local.list([local.Lock()])
    assert objects() == 3
    held = kept["x"]
    del kept["x"]
    assert objects() == 3
    del held
    assert objects() == 1
    kept["self"] = kept
    del kept
    assert objects() == 0, "not even a cycle stays"


def memory_of(manager):
    """Returns the bytes that the memory of a manager has."""
    import os

    return os.fstat(manager._memory.descriptor).st_blocks * 512


def test_memory_is_used_again(local):
    def use(n):
        shared = local.dict({n: bytes(1000)})
        shared["list"] = local.list(range(50))
        queue, lock = local.Queue(), local.Lock()
        lock.acquire()
        queue.put(n)
        assert shared["list"][n % 50] == n % 50 and queue.qsize() == 1

    for n in range(300):
        use(n)
    before = memory_of(local)
    for n in range(600):
        use(n)
    assert memory_of(local) <= before * 1.2
    empty = local.dict(), local.list(), local.Queue(), local.Lock()
    assert len(empty[0]) == len(empty[1]) == empty[2].qsize() == 0 and empty[3].acquire(False)


def test_after_shutdown(context):
    manager = context.Manager()
    objects = manager.dict(a=1), manager.list([1]), manager.Queue(), manager.Lock(), manager.Namespace()
    manager.shutdown()
    shared, items, box, lock, space = objects
    for call in (
        lambda: shared["a"], lambda: shared.update(b=1), lambda: len(shared), lambda: items[0],
        lambda: items.append(1), box.get_nowait, lock.acquire, lambda: space.x, shared._getvalue,
        lambda: pickle.dumps(shared),
    ):  # fmt: skip
        with pytest.raises(BrokenPipeError, match="shut down"):
            call()
    with pytest.raises(AssertionError):
        manager.dict()
    manager.shutdown()
    manager.join()
    with pytest.raises(AssertionError):
        SyncManager().dict()
    with pytest.raises(TypeError):
        SyncManager().start(1)


def test_there_is_no_server(context):
    with context.Manager() as manager:
        shared = manager.dict()
        shared["a"] = 1
        assert getattr(manager, "_process", None) is None
        assert [child.name for child in pagemate.multiprocessing.active_children()] == []


class Counter:
    def __init__(self, value=0):
        self.value = value

    def add(self, n=1):
        self.value += n
        return self.value


class Manager(SyncManager):
    pass


Manager.register("Counter", Counter)


def test_registered_types(context):
    with Manager(ctx=context) as manager:
        shared, counter = manager.dict(), manager.Counter(5)
        assert counter.add() == 6 and counter.add(n=2) == 8
        shared["counter"] = counter
        assert manager._process.is_alive() and manager._number_of_objects() == 2
    manager.join()


def double(x):
    return 2 * x


def test_pool_of_a_manager(manager):
    with manager.Pool(2) as pool:
        assert pool.map(double, [1, 2]) == [2, 4]
        assert pool.apply_async(double, (5,)).get(LONG) == 10
        assert list(pool.imap(double, [1, 2])) == [2, 4]


def note(space):
    space.called = True


def test_initializer(context):
    with context.Manager() as first:
        space = first.Namespace(called=False)
        second = SyncManager(ctx=context)
        second.start(note, (space,))
        assert space.called and second.dict(a=1)["a"] == 1
        second.shutdown()
        second.join()


def serve(address, ready):
    manager = SyncManager(address=address, authkey=b"key")
    server = manager.get_server()
    ready.set()
    server.serve_forever()


def test_remote_managers_are_those_of_the_standard_library(context, start, tmp_path):
    ready = context.Event()
    child = start(context, serve, str(tmp_path / "socket"), ready)
    assert ready.wait(LONG)
    remote = SyncManager(address=str(tmp_path / "socket"), authkey=b"key")
    until(lambda: (tmp_path / "socket").exists())
    remote.connect()
    shared = remote.dict(a=1)
    assert shared["a"] == 1 and type(shared) is multiprocessing.managers.DictProxy
    child.terminate()


OTHER = """
import pickle, sys
shared = pickle.loads(bytes.fromhex(sys.argv[1]))
shared["seen"] = shared["a"] + 1
"""


def test_an_unrelated_process(local):
    shared = local.dict(a=1)
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", OTHER, pickle.dumps(shared).hex()]
    subprocess.run(command, check=True)
    assert shared["seen"] == 2


def test_two_managers(context):
    with context.Manager() as one, context.Manager() as other:
        shared, items = one.dict(), other.list([1])
        shared["items"] = items
        shared["items"].append(2)
        assert items[:] == [1, 2]
        del items
        gc.collect()
        assert shared["items"][:] == [1, 2], "the pickle in a dict of another manager keeps it"


def fill(shared, first):
    for n in range(first, first + 500):
        shared[n] = n


def test_from_several_processes_at_once(manager, start):
    shared = manager.dict()
    children = [start(manager._ctx, fill, shared, 500 * n) for n in range(3)]
    for child in children:
        ended(child)
    assert shared.copy() == {n: n for n in range(1500)}


def test_a_change_of_a_dict_does_not_wait_with_the_interpreter(local):
    """Threads that change one dict at once wait for each other."""
    shared = local.dict(n=0)
    lock = local.Lock()

    def add():
        for _ in range(300):
            with lock:
                shared["n"] += 1

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert shared["n"] == 1200
