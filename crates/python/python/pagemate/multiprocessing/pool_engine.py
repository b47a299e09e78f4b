"""The threads of a ``Pool``: one replaces workers that end, one passes results on.

Neither refers to the ``Pool`` itself, so that it can be collected while they run.

# Death

What a worker's death leaves in the pool's memory is in the docs of the native half. Here is who
notices it.

| who dies | when | noticed by | consequence |
|---|---|---|---|
| worker | before its initialiser returned | its sentinel | another is started; too often: broken |
| worker | without a task | its sentinel | another is started |
| worker | in a task | its sentinel | the task gets ``WorkerDied``, the others of its chunk run |
| worker | a result was handed over, the next task not begun | its sentinel | the result is kept |
| worker | at its limit of tasks | its sentinel | another is started |
| the pool's process | at any time | each worker's watch on it | the workers end |

A worker holds no lock that another worker or the pool needs. Therefore ``terminate`` need not wait
for any, and kills those that SIGTERM does not end.
"""

import os
import threading
import time
from multiprocessing import connection, util

from .errors import WorkerDied
from .pool_worker import dumps, terminated, unpack_error, work

RUN, CLOSE, TERMINATE = "RUN", "CLOSE", "TERMINATE"

#: Seconds that a worker has to end after SIGTERM, before it is killed.
GRACE = 1.0
#: Seconds between two tries to start a worker, and until the pool gives up without any.
START_AGAIN, START_WAIT = 0.05, 10.0
#: So many workers in a row, times their number, may be killed before they have begun.
KILLS_MAX = 50
#: Seconds of a wait that something ends.
LONG = 3600.0


class Engine:
    """What the threads of a pool share."""

    def __init__(self, context, make_process, memory, processes, initializer, initargs, maxtasks):
        self.context, self.make_process, self.processes = context, make_process, processes
        self.memory, self.tasks = memory, memory.tasks(processes)
        self.initializer, self.initargs, self.maxtasks = initializer, initargs, maxtasks
        self.state = RUN
        #: Nothing will be started or submitted any more.
        self.is_over = False
        self.broken = None
        self.lock = threading.RLock()  # for the workers, and the counts of failed starts
        self.workers = []  # in the order of their start
        self.places = [None] * processes
        self.begun = [False] * processes
        #: Workers that have begun, and how many had when each worker was started.
        self.begins, self.begins_before = 0, [0] * processes
        self.failures = self.kills = 0
        self.lacking_since = None
        self.jobs, self.streams = {}, set()
        self.feeding = 0
        self.threads = []
        self.notifier = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def __del__(self):
        if hasattr(self, "notifier"):
            os.close(self.notifier)

    def start(self):
        """Starts the workers, and then the threads."""
        try:
            self.repopulate()
        except BaseException:
            for worker in self.workers:
                if worker.exitcode is None:
                    worker.terminate()
            for worker in self.workers:
                worker.join()
            raise
        for target in supervise, pass_on:
            thread = threading.Thread(target=target, args=(self,), daemon=True)
            thread.start()
            self.threads.append(thread)

    def notify(self):
        """Wakes the thread that replaces workers."""
        os.eventfd_write(self.notifier, 1)

    def repopulate(self):
        """Starts a worker in each free place."""
        with self.lock:
            for index, worker in enumerate(self.places):
                if worker is None and self.broken is None:
                    self.start_worker(index)

    def start_worker(self, index):
        self.tasks.reset_worker(index)
        args = self.memory, index, self.initializer, self.initargs, self.maxtasks
        worker = self.make_process(self.context, target=work, args=args)
        worker.name = worker.name.replace("Process", "PoolWorker")
        worker.daemon = True
        worker.start()
        self.places[index], self.begun[index] = worker, False
        self.begins_before[index] = self.begins
        self.workers.append(worker)
        util.debug("added worker")

    def refill(self):
        """Starts workers. Tolerates a shortage, and returns when to try again."""
        try:
            self.repopulate()
        except Exception as error:
            now = time.monotonic()
            if self.workers:
                self.lacking_since = None
            elif self.lacking_since is None:
                self.lacking_since = now
            elif now - self.lacking_since > START_WAIT:
                self.break_off(error)
            return START_AGAIN
        self.lacking_since = None
        return None

    def reap(self):
        """Removes workers that have ended, and recovers what they were running."""
        with self.lock:
            # First who has begun, since a worker that failed may have been started after that.
            for index in range(self.processes):
                self.note_begin(index)
            for index, worker in enumerate(self.places):
                if worker is not None and worker.exitcode is not None:
                    self.bury(index, worker)

    def note_begin(self, index):
        if not self.begun[index] and self.tasks.has_begun(index):
            self.begun[index] = True
            self.begins += 1
            self.failures = self.kills = 0

    def bury(self, index, worker):
        worker.join()
        self.note_begin(index)
        self.places[index] = None
        self.workers.remove(worker)
        self.tasks.worker_ended(index, worker.pid, worker.exitcode)
        # A failure that is seen late may have come before the last worker that began.
        if self.begun[index] or self.begins != self.begins_before[index]:
            return
        packed = self.memory.take_error(index)
        if packed is None and worker.exitcode < 0:
            self.kills += 1
        else:
            self.failures += 1
        if self.failures >= self.processes or self.kills >= KILLS_MAX * self.processes:
            self.break_off(unpack_error(packed) if packed else WorkerDied(worker.exitcode, worker.pid))

    def break_off(self, error):
        """Ends the pool, because its workers cannot begin."""
        util.debug("the workers of a pool cannot begin: %r", error)
        self.broken = error
        for job in [*self.jobs.values()]:
            job.reason = error
        self.tasks.end()
        self.lift()

    def check(self):
        """Raises an exception if the pool takes no tasks."""
        if self.broken is not None:
            raise self.broken.with_traceback(None)

    def is_wanted(self):
        """Returns whether workers are needed."""
        if self.state == CLOSE:
            return bool(self.jobs or self.feeding or self.tasks.outstanding())
        return self.state == RUN

    def lift(self):
        """Lets all look-aheads go on, since somebody waits for the end of all tasks."""
        for stream in [*self.streams]:
            stream.lift()

    def add(self, batch, job):
        job.reason = self.broken
        self.jobs[batch.id] = job

    def submit(self, batch, job, first, items, chunksize):
        """Submits items. Those that cannot be pickled fail when their results are due."""
        for number, count, error in self.tasks.submit(batch, first, items, chunksize, dumps):
            job.errors.update(dict.fromkeys(range(number, number + count), error))
            self.tasks.give_up(batch, number, count)

    def remove(self, number):
        del self.jobs[number]
        if self.state != RUN and not self.jobs:
            self.notify()

    def close(self):
        """Lets everything end once all tasks are done."""
        self.state = CLOSE
        self.notify()

    def join(self):
        """Blocks until all tasks are done, or the pool was terminated, and the workers are gone."""
        self.lift()
        for thread in self.threads:
            _join(thread)
        for worker in [*self.workers]:
            worker.join()

    def terminate(self):
        """Ends the tasks that are not done, and the workers. Returns within two seconds."""
        self.state = TERMINATE
        self.notify()
        _join(self.threads[0])
        self.tasks.end()
        self.lift()
        running = [worker for worker in self.workers if worker.exitcode is None]
        for worker in running:
            worker.terminate()
        self.is_over = True
        self.tasks.wake()
        _join(self.threads[1])
        end = time.monotonic() + GRACE
        for worker in running:
            worker.join(max(0, end - time.monotonic()))
        for worker in running:
            if worker.exitcode is None:
                worker.kill()
                worker.join()


def _join(thread):
    # The pool may be ended by a callback, or by the collector in any thread.
    if thread is not threading.current_thread():
        thread.join()


def supervise(engine):
    """Replaces workers that end, until the pool is closed and has nothing to do."""
    while engine.is_wanted():
        engine.reap()
        timeout = engine.refill()
        with engine.lock:
            sentinels = [worker.sentinel for worker in engine.workers]
        if engine.is_wanted():
            connection.wait([*sentinels, engine.notifier], timeout)
        try:
            os.eventfd_read(engine.notifier)
        except BlockingIOError:
            pass
    if engine.state == CLOSE:
        engine.tasks.close()
        engine.is_over = True
        engine.tasks.wake()
    util.debug("worker handler exiting")


def pass_on(engine):
    """Passes results on as they arrive, until there can be no more."""
    is_over = False
    while not is_over:
        is_over = engine.is_over  # what arrived before that is passed on now
        for number in engine.tasks.wait(0 if is_over else LONG):
            pass_on_to(engine, number)
    for number in [*engine.jobs]:
        job = engine.jobs[number]
        job.fail(terminated())
        engine.remove(number)
    util.debug("result handler exiting")


def pass_on_to(engine, number):
    job = engine.jobs.get(number)
    if job is None:
        return
    try:
        is_done = job.arrive()
    except BaseException as error:
        job.fail(error)
        is_done = True
    if is_done:
        engine.remove(number)
