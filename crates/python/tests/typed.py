"""For mypy: what the stubs say about programs. Never runs."""

import asyncio
from typing import Any

import numpy
import pagemate
import pagemate.multiprocessing as multiprocessing
import pagemate.numpy
from pagemate.multiprocessing.connection import Connection, wait
from pagemate.multiprocessing.queues import JoinableQueue, Queue, SimpleQueue
from typing_extensions import assert_type


def work(jobs: Queue[int], done: JoinableQueue[str], lock: pagemate.Lock) -> None:
    with lock:
        assert_type(jobs.get(timeout=1.5), int)
    done.put("yes")
    done.task_done()
    jobs.put("no")  # type: ignore[arg-type]
    jobs.put(1, blocking=False)  # type: ignore[call-arg]


async def wait_for(jobs: Queue[int]) -> None:
    assert_type(await jobs.aget(), int)
    await jobs.aput(3)
    asyncio.get_running_loop().add_reader(jobs.fileno(), print)


def main() -> None:
    jobs: Queue[int] = multiprocessing.Queue(10)
    done: JoinableQueue[str] = pagemate.JoinableQueue()
    process = multiprocessing.Process(target=work, args=(jobs, done, multiprocessing.Lock()))
    process.start()
    assert_type(process.exitcode, int | None)

    context = pagemate.get_context("spawn")
    assert_type(context.Queue(), Queue[Any])
    assert_type(context.SimpleQueue(), SimpleQueue[Any])
    first, second = context.Pipe()
    assert_type(first, Connection)
    with first:
        first.send({"any": "object"})
        assert_type(second.recv_bytes(), bytes)
        wait([first, second], timeout=0)

    assert_type(multiprocessing.Event().wait(1), bool)
    assert_type(context.Barrier(3, action=main).wait(), int)
    assert_type(context.Condition().wait_for(lambda: "value"), str)
    with context.Pool(2) as pool:
        assert_type(pool.map(len, ["a", "bc"]), list[int])
        for length in pool.imap(len, ["a"], buffersize=3):
            assert_type(length, int)
    context.Semaphore(-1).release(2)  # type: ignore[call-arg]

    array = pagemate.numpy.zeros((3, 4), "f4")
    assert_type(array, pagemate.numpy.SharedArray)
    numpy.add(array, 1)
