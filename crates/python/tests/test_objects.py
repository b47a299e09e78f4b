"""Each object between a parent and its children, with each start method."""

import queue
import threading

import pytest
from conftest import LONG, ended, until


def echo(inbox, outbox):
    while (message := inbox.get()) is not None:
        outbox.put(message)


def test_queue(context, start):
    inbox, outbox = context.Queue(), context.Queue(4)
    child = start(context, echo, inbox, outbox)
    messages = [{"n": n, "text": "x" * n} for n in range(200)]
    for message in messages:
        inbox.put(message)
    assert [outbox.get(timeout=LONG) for _ in messages] == messages
    inbox.put(None)
    ended(child)
    assert inbox.empty() and outbox.empty() and outbox.qsize() == 0
    with pytest.raises(queue.Empty):
        outbox.get_nowait()
    with pytest.raises(queue.Empty):
        outbox.get(timeout=0.01)


def test_queue_is_bounded(context):
    small = context.Queue(2)
    small.put(1)
    small.put(2)
    assert small.full() and small.qsize() == 2
    for block, timeout in [(False, None), (True, 0.01), (True, -1)]:
        with pytest.raises(queue.Full):
            small.put(3, block, timeout)
    assert [small.get(), small.get()] == [1, 2]
    small.close()
    small.close()
    small.join_thread()
    for call in small.get, small.put_nowait:
        with pytest.raises(ValueError, match="is closed"):
            call(1)


def put_all(outbox, count):
    for n in range(count):
        outbox.put((n, bytes(n)))


def test_messages_outlive_their_producer(context, start):
    outbox = context.Queue()
    ended(start(context, put_all, outbox, 1000))
    assert [outbox.get_nowait() for _ in range(1000)] == [(n, bytes(n)) for n in range(1000)]


@pytest.mark.parametrize("size", [0, 90, 200, 5_000, 40_000, 5_000_000])
def test_messages_of_any_length(context, start, size):
    inbox, outbox = context.Queue(), context.Queue(3)
    count = 20_000_000 // max(size, 10_000)  # far more bytes than the queue has room for
    child = start(context, echo, inbox, outbox)
    for n in range(count):
        inbox.put((n, bytes(size)))
    for n in range(count):
        assert outbox.get(timeout=LONG) == (n, bytes(size))
    inbox.put(None)
    ended(child)
    full = context.Queue(1)
    full.put(1)
    with pytest.raises(queue.Full):
        full.put(bytes(size), timeout=0.01)


def work(jobs, done):
    while (job := jobs.get()) is not None:
        done.release()
        jobs.task_done()
    jobs.task_done()


def test_joinable_queue(context, start):
    jobs, done = context.JoinableQueue(), context.Semaphore(0)
    jobs.join()
    children = [start(context, work, jobs, done) for _ in range(2)]
    for n in range(50):
        jobs.put(n)
    jobs.join()
    assert done.get_value() == 50
    for _ in children:
        jobs.put(None)
    jobs.join()
    for child in children:
        ended(child)
    with pytest.raises(ValueError, match="too many times"):
        jobs.task_done()


def add(lock, total, count):
    for _ in range(count):
        with lock:
            total.value += 1


@pytest.mark.parametrize("kind", ["Lock", "RLock", "BoundedSemaphore", "Semaphore", "Condition"])
def test_one_at_a_time(context, start, kind):
    lock, total = getattr(context, kind)(), context.Value("i", 0, lock=False)
    children = [start(context, add, lock, total, 500) for _ in range(3)]
    for child in children:
        ended(child)
    assert total.value == 1500
    assert lock.acquire(timeout=1)
    lock.release()


def test_lock(context):
    lock = context.Lock()
    assert lock.acquire() and not lock.acquire(False) and not lock.acquire(timeout=0.01)
    other = threading.Thread(target=lock.release)
    other.start()
    other.join()
    with pytest.raises(ValueError, match="too many times"):
        lock.release()
    assert repr(lock) == "<Lock(owner=None)>"


def test_rlock(context):
    lock = context.RLock()
    assert lock.acquire() and lock.acquire()
    outcome = []
    other = threading.Thread(target=lambda: outcome.append(lock.acquire(False)))
    other.start()
    other.join()
    assert outcome == [False]
    lock.release()
    lock.release()
    with pytest.raises(AssertionError):
        lock.release()


def test_semaphores(context):
    counter = context.Semaphore(0)
    counter.release()
    counter.release()
    assert counter.get_value() == 2 and counter.acquire() and counter.acquire()
    assert not counter.acquire(False) and not counter.acquire(timeout=0.01)
    with pytest.raises(OSError, match="not possible"):
        context.Semaphore(-1)
    bounded = context.BoundedSemaphore(2)
    assert bounded.acquire() and bounded.acquire() and not bounded.acquire(False)
    bounded.release()
    bounded.release()
    with pytest.raises(ValueError, match="too many times"):
        bounded.release()


def answer(question, reply):
    assert question.wait(LONG)
    reply.set()


def test_event(context, start):
    question, reply = context.Event(), context.Event()
    child = start(context, answer, question, reply)
    assert not reply.is_set() and not reply.wait(0)
    question.set()
    assert reply.wait(LONG)
    ended(child)
    reply.clear()
    assert not reply.is_set()


def wait_once(condition, ready, woken):
    with condition:
        ready.release()
        assert condition.wait(LONG)
        woken.release()


def test_condition(context, start):
    condition, ready, woken = context.Condition(), context.Semaphore(0), context.Semaphore(0)
    children = [start(context, wait_once, condition, ready, woken) for _ in range(3)]
    for _ in children:
        assert ready.acquire(timeout=LONG)
    with condition:  # so all have released it, and wait
        condition.notify(2)
    assert woken.acquire(timeout=LONG) and woken.acquire(timeout=LONG)
    with condition:
        assert woken.get_value() == 0
        condition.notify_all()
    for child in children:
        ended(child)
    with condition:
        assert not condition.wait(0.01)
        assert condition.wait_for(lambda: 0, timeout=0.01) == 0
    for call in condition.wait, condition.notify:
        with pytest.raises(AssertionError, match="acquire the condition"):
            call()


def test_condition_restores_the_depth(context, start):
    condition, ready, woken = context.Condition(), context.Semaphore(0), context.Semaphore(0)
    child = start(context, wait_once, condition, ready, woken)
    assert ready.acquire(timeout=LONG)
    with condition, condition:
        assert not condition.wait(0.01)
        assert condition._lock._is_mine()
        condition.notify()
    assert not condition._lock._is_mine()
    ended(child)


def take_turns(condition, turn, mine, rounds):
    with condition:
        for _ in range(rounds):
            assert condition.wait_for(lambda: turn.value == mine, LONG)
            turn.value = 1 - mine
            condition.notify_all()


def test_no_notification_is_lost(context, start):
    condition, turn = context.Condition(), context.Value("i", 0, lock=False)
    child = start(context, take_turns, condition, turn, 1, 500)
    take_turns(condition, turn, 0, 500)
    ended(child)


def meet(barrier, indices, rounds):
    for _ in range(rounds):
        indices.put(barrier.wait(LONG))


def test_barrier(context, start):
    barrier, indices = context.Barrier(3), context.Queue()
    children = [start(context, meet, barrier, indices, 20) for _ in range(2)]
    own = [barrier.wait(LONG) for _ in range(20)]
    for child in children:
        ended(child)
    assert sorted(own + [indices.get() for _ in range(40)]) == [0] * 20 + [1] * 20 + [2] * 20
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait(0.01)
    assert barrier.broken
    barrier.reset()
    assert not barrier.broken and barrier.n_waiting == 0 and barrier.parties == 3


def test_barrier_action(context):
    calls = []
    barrier = context.Barrier(1, action=lambda: calls.append(barrier.n_waiting))
    assert barrier.wait() == 0 and calls == [1]

    def fail():
        raise KeyError("no")

    failing = context.Barrier(1, action=fail)
    with pytest.raises(KeyError):
        failing.wait()
    assert failing.broken


def change(value, array):
    with value.get_lock():
        value.value += 1
    array[1] = 2.5


def test_value_and_array(context, start):
    value, array = context.Value("i", 41), context.Array("d", 3)
    ended(start(context, change, value, array))
    assert value.value == 42 and array[:] == [0, 2.5, 0]
    with pytest.raises(AttributeError, match="no method 'acquire'"):
        context.Value("i", 1, lock=5)


def test_objects_travel_only_to_children(context):
    import pickle

    with pytest.raises(RuntimeError, match="inheritance"):
        pickle.dumps(context.Event())


def test_many_objects_are_freed(context):
    import gc
    import os

    def descriptors():
        return len(os.listdir("/proc/self/fd"))

    gc.collect()  # what earlier tests left must not be freed now
    before = descriptors()
    many = [context.Lock() for _ in range(100)]
    assert descriptors() > before
    del many
    until(lambda: descriptors() == before)
