"""Exceptions that ``multiprocessing`` does not have."""

from multiprocessing import ProcessError

__all__ = ["WorkerDied"]


class WorkerDied(ProcessError):
    """A pool's worker was killed, or ended, while it ran this task.

    ``exitcode`` is that of the worker: ``-9`` after SIGKILL. ``pid`` is its process id.
    """

    def __init__(self, exitcode, pid):
        super().__init__(exitcode, pid)
        self.exitcode, self.pid = exitcode, pid

    def __str__(self):
        return f"the task's worker (pid {self.pid}) died with exit code {self.exitcode}"
