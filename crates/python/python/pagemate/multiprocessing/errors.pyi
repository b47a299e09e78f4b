from multiprocessing import ProcessError

__all__ = ["WorkerDied"]

class WorkerDied(ProcessError):
    exitcode: int
    pid: int
    def __init__(self, exitcode: int, pid: int) -> None: ...
