"""``Pool`` whose workers are killed, or whose process is."""

import faulthandler
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from conftest import LONG, until
from pagemate.multiprocessing import ProcessError, WorkerDied

#: A task learns of its worker's death, and a pool ends, within this time. The best of some tries
#: counts, since a busy machine delays any process.
PROMISE = 1.0
END = 2.0
TRIES = 3


def die(when=None, how=signal.SIGKILL):
    faulthandler.disable()  # it would report the signal
    if when is not None:
        when.value = time.monotonic()
    os.kill(os.getpid(), how)
    time.sleep(LONG)


_when = None


def keep(when):
    global _when
    _when = when


def die_at_three(x):
    if x == 3:
        die(_when)
    return x


def square(x):
    return x * x


def alive(workers):
    return [worker for worker in workers._pool if worker.is_alive()]


def test_killed_in_a_task(context):
    when, delays = context.Value("d", lock=False), []
    with context.Pool(2, keep, (when,)) as workers:
        for _ in range(TRIES):
            workers.map(square, range(4), 1)
            others = workers.map_async(square, range(100), 1)
            pids = {worker.pid for worker in workers._pool}
            with pytest.raises(WorkerDied) as caught:
                workers.apply(die_at_three, (3,))
            delays.append(time.monotonic() - when.value)
            assert caught.value.exitcode == -9 and caught.value.pid in pids
            assert isinstance(caught.value, ProcessError)
            assert others.get(LONG) == [x * x for x in range(100)]
            until(lambda: len(alive(workers)) == 2)
    assert min(delays) < PROMISE, delays


@pytest.mark.parametrize("size", [1, 5, 20])
def test_a_death_costs_one_task(context, size):
    with context.Pool(2) as workers:
        for call in workers.imap, workers.imap_unordered:
            results, values = call(die_at_three, range(20), size), []
            with pytest.raises(WorkerDied):
                while True:
                    values.append(next(results))
            values += results
            assert sorted(values) == [x for x in range(20) if x != 3]
        with pytest.raises(WorkerDied):
            workers.map(die_at_three, range(20), size)
        assert workers.map(square, range(20)) == [x * x for x in range(20)]


def leave(code):
    os._exit(code)


def test_exit_codes(context):
    with context.Pool(1) as workers:
        for task, args, code in [(leave, (0,), 0), (leave, (7,), 7), (die, (None, 11), -11)]:
            with pytest.raises(WorkerDied, match=f"exit code {code}") as caught:
                workers.apply_async(task, args).get(LONG)
            assert caught.value.exitcode == code


def kill(dice, workers, killed):
    """Kills a worker, if there is one."""
    for victim in alive(workers)[dice.randrange(3) :][:1]:
        victim.kill()
        killed.add(victim.pid)


def test_idle_workers_killed_at_random(context):
    dice, killed = random.Random(1), set()
    workers = context.Pool(3)
    while len(killed) < 100:
        if len(killed) % 10 == 0:  # of the others, most are killed while they begin
            assert workers.map(square, range(3), 1) == [0, 1, 4]
        until(lambda: alive(workers))
        kill(dice, workers, killed)
    assert workers.map(square, range(1000), 1) == [x * x for x in range(1000)]
    begin = time.monotonic()
    workers.terminate()
    workers.join()
    assert time.monotonic() - begin < END


def work(x):
    end = time.monotonic() + 0.002
    while time.monotonic() < end:
        pass
    return x


def test_busy_workers_killed_at_random(context):
    dice, count, killed = random.Random(2), 500, set()
    with context.Pool(3) as workers:
        tasks = [workers.apply_async(work, (x,)) for x in range(count)]
        stream = workers.imap_unordered(work, range(count), 5, buffersize=count)
        while len(killed) < 20:
            time.sleep(dice.random() * 0.02)
            until(lambda: alive(workers))
            kill(dice, workers, killed)
        values, deaths = [], 0
        for call in [task.get for task in tasks] + [stream.next] * count:
            try:
                values.append(call(LONG))
            except WorkerDied as error:
                assert error.exitcode == -9
                deaths += 1
        assert deaths <= len(killed) and len(values) == 2 * count - deaths
        assert max(map(values.count, set(values))) <= 2
        with pytest.raises(StopIteration):
            next(stream)


def stop(_):
    os.kill(os.getpid(), signal.SIGSTOP)


def ignore(_):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(LONG)


@pytest.mark.parametrize("task", [stop, ignore])
def test_terminate_ends_workers_that_sigterm_does_not(context, task):
    workers = context.Pool(2)
    workers.map(square, range(2), 1)
    workers.map_async(task, range(2), 1)
    pids = [worker.pid for worker in workers._pool]
    until(lambda: all(state(pid) in "TS" for pid in pids))
    begin = time.monotonic()
    workers.terminate()
    workers.join()
    assert time.monotonic() - begin < END
    assert not alive(workers)


def state(pid):
    """Returns the state of a process; Z if it has ended."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def fail(begin, tries):
    begin.wait(LONG)
    with tries.get_lock():
        tries.value += 1
    raise LookupError("no initialisation")


def leave_at_once():
    os._exit(3)


def test_initializers_that_fail_break_the_pool(context):
    begin, tries = context.Event(), context.Value("i", 0)
    workers = context.Pool(2, fail, (begin, tries))
    pending = workers.apply_async(square, (2,))
    begin.set()
    calls = pending.get, lambda: workers.map(square, [1]), lambda: workers.imap(square, [1])
    for call in calls:
        with pytest.raises(LookupError, match="no initialisation"):
            call()
    workers.terminate()
    workers.join()
    assert 2 <= tries.value <= 3, "not again and again"


def test_initializers_that_end_break_the_pool(context):
    workers = context.Pool(2, leave_at_once)
    until(lambda: workers._engine.broken)
    with pytest.raises(WorkerDied, match="exit code 3"):
        workers.apply(square, (1,))
    workers.terminate()
    workers.join()


_shared = None


def fail_sometimes(failures, may_fail):
    """Fails at first, and whenever a worker that came after the last failure has run a task."""
    global _shared
    with failures.get_lock():
        if may_fail.value:
            failures.value, may_fail.value = failures.value + 1, 0
            raise LookupError("now and then")
        _shared = failures, may_fail, failures.value


def square_and_permit(x):
    failures, may_fail, before = _shared
    with failures.get_lock():
        if failures.value == before:
            may_fail.value = 1
    return x * x


def test_initializers_that_fail_now_and_then_break_nothing(context):
    failures, may_fail = context.Value("i", 0), context.Value("i", 1)
    with context.Pool(2, fail_sometimes, (failures, may_fail), 1) as workers:
        assert workers.map(square_and_permit, range(10), 1) == [x * x for x in range(10)]
    assert failures.value > 2, "more than there are workers"


PROGRAM = """
import signal, sys, time
import pagemate.multiprocessing as mp
def idle(_):
    time.sleep(1000)
def busy(_):
    return sum(range(10**12))  # with the interpreter, and without a look at signals
def pid(_):
    import os
    time.sleep(0.05)
    return os.getpid()
if __name__ == "__main__":
    context = mp.get_context(sys.argv[1])
    pools = [context.Pool(1) for _ in range(3)]
    pids = [pool.apply(pid, (0,)) for pool in pools]
    pools[1].apply_async(idle, (0,))
    pools[2].apply_async(busy, (0,))
    daemon = context.Process(target=idle, args=(0,), daemon=True)
    daemon.start()
    bystander = context.Process(target=idle, args=(0,))  # has copies of what it inherits
    bystander.start()
    print(*pids, daemon.pid, bystander.pid, flush=True)
    signal.pause()
"""


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_daemons_die_with_their_parent(method, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    delays = []
    for _ in range(TRIES):
        command = [sys.executable, str(program), method]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
            *daemons, bystander = map(int, parent.stdout.readline().split())
            assert len(daemons) == 4
            parent.kill()
            begin = time.monotonic()
            parent.wait()
            try:
                until(lambda: all(state(pid) == "Z" for pid in daemons))
                delays.append(time.monotonic() - begin)
            finally:
                os.kill(bystander, signal.SIGKILL)
    assert min(delays) < PROMISE, delays
