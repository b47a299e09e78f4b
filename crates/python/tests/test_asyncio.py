"""Queues in event loops: coroutines that wait, and a descriptor that says when there is something."""

import asyncio
import os
import queue
import select
import signal
import subprocess
import sys
import threading

import pagemate.multiprocessing as multiprocessing
import pytest
from conftest import LONG, ended, until


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, LONG))


def waiters():
    return sum(thread.name == "pagemate" for thread in threading.enumerate())


def echo(inbox, outbox):
    while (message := inbox.get()) is not None:
        outbox.put(message)


def test_aget_and_aput(context, start):
    inbox, outbox = context.Queue(2), context.Queue(2)
    child = start(context, echo, inbox, outbox)

    async def put():
        for n in range(200):
            await inbox.aput(n)
        await inbox.aput(None)

    async def main():
        putting = asyncio.create_task(put())
        got = [await outbox.aget() for _ in range(200)]
        await putting
        return got

    assert run(main()) == list(range(200))
    ended(child)
    assert waiters() == 1


def test_the_loop_goes_on_meanwhile():
    messages = multiprocessing.Queue(1)

    async def main():
        getting = asyncio.create_task(messages.aget())
        for _ in range(10):
            await asyncio.sleep(0)
        assert not getting.done()
        messages.put("now")
        assert await getting == "now"
        messages.put(1)
        putting = asyncio.create_task(messages.aput(2))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not putting.done()
        assert messages.get() == 1
        await putting
        assert await messages.aget() == 2

    run(main())


def test_many_coroutines_and_loops():
    messages, seen = multiprocessing.Queue(3), queue.Queue()

    async def take():
        while (message := await messages.aget()) is not None:
            seen.put(message)

    async def give(first):
        for n in range(100):
            await messages.aput(first + n)

    async def takers():
        await asyncio.gather(*[take() for _ in range(10)])

    async def givers():
        await asyncio.gather(*[give(1000 * n) for n in range(5)])

    takers = [threading.Thread(target=run, args=(takers(),)) for _ in range(2)]
    giver = threading.Thread(target=run, args=(givers(),))
    for thread in [*takers, giver]:
        thread.start()
    giver.join()
    for _ in range(20):
        messages.put(None)
    for thread in takers:
        thread.join()
    assert sorted(seen.queue) == [1000 * n + m for n in range(5) for m in range(100)]
    assert waiters() == 1


def test_cancelled_waiters_lose_nothing():
    messages = multiprocessing.Queue()

    async def main():
        got = []

        async def take():
            got.append(await messages.aget())

        last = asyncio.create_task(asyncio.sleep(0))
        for n in range(200):
            cancelled = [asyncio.create_task(take()) for _ in range(2)]
            await asyncio.sleep(0)
            messages.put(n)
            if n % 3:
                await asyncio.sleep(0)
            for task in cancelled:
                task.cancel()
            last = asyncio.create_task(take())
            await asyncio.wait([*cancelled])
            if len(got) <= n:
                await last
            else:
                last.cancel()
                await asyncio.wait([last])
        return got

    got = run(main())
    while not messages.empty():
        got.append(messages.get())
    assert sorted(got) == list(range(200))


def test_a_killed_producer(context, start):
    messages = context.Queue()
    for n in range(3):
        victim = start(context, produce, messages, n)
        assert run(messages.aget()) == n
        victim.kill()
        victim.join()
    getting = threading.Thread(target=lambda: got.append(run(messages.aget())))
    got = []
    getting.start()
    messages.put("still usable")
    getting.join()
    assert got == ["still usable"]


def produce(messages, n):
    messages.put(n)
    signal.pause()


def is_readable(descriptor, timeout=0):
    return select.select([descriptor], [], [], timeout)[0] != []


def test_fileno(context, start):
    inbox, outbox = context.Queue(), context.Queue()
    descriptor = outbox.fileno()
    assert outbox.fileno() == descriptor and not is_readable(descriptor)
    child = start(context, echo, inbox, outbox)
    for _ in range(3):
        inbox.put("a")
        inbox.put("b")
        assert is_readable(descriptor, LONG)
        assert outbox.get() == "a"
        assert is_readable(descriptor, LONG)
        assert outbox.get() == "b"
        assert not is_readable(descriptor)
        with pytest.raises(queue.Empty):
            outbox.get_nowait()
    inbox.put("c")
    assert is_readable(descriptor, LONG)
    assert outbox.get() == "c"
    inbox.put(None)
    ended(child)


def test_a_message_that_another_process_has_taken():
    messages = multiprocessing.Queue()
    descriptor = messages.fileno()
    messages.put(1)
    assert is_readable(descriptor, LONG)
    child = multiprocessing.get_context("fork").Process(target=messages.get)
    child.start()
    ended(child)
    with pytest.raises(queue.Empty):
        messages.get_nowait()
    assert not is_readable(descriptor)
    messages.put(2)
    assert is_readable(descriptor, LONG)


def test_add_reader():
    messages = multiprocessing.Queue()

    async def main():
        loop, got, done = asyncio.get_running_loop(), [], asyncio.Event()

        def read():
            got.append(messages.get_nowait())
            if len(got) == 50:
                done.set()

        loop.add_reader(messages.fileno(), read)
        thread = threading.Thread(target=lambda: [messages.put(n) for n in range(50)])
        thread.start()
        await done.wait()
        loop.remove_reader(messages.fileno())
        thread.join()
        return got

    assert run(main()) == list(range(50))


def test_forked_children_wait_by_themselves():
    context = multiprocessing.get_context("fork")
    messages, answers = context.Queue(), context.Queue()
    descriptor = messages.fileno()

    def wait():
        answers.put(messages.fileno() == descriptor)
        answers.put((run(messages.aget()), waiters()))

    child = context.Process(target=wait)
    child.start()
    assert run(answers.aget()) is False, "it must not read the parent's descriptor"
    messages.put("for the child")
    assert run(answers.aget()) == ("for the child", 1)
    ended(child)


def test_nothing_is_kept():
    before = len(os.listdir("/proc/self/fd"))
    multiprocessing.Queue().fileno()  # begins the thread
    until(lambda: len(os.listdir("/proc/self/fd")) <= before + 3)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        messages = multiprocessing.Queue()
        messages.fileno()

        async def give_up():
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(messages.aget(), 0.001)

        run(give_up())
    del messages, give_up
    until(lambda: len(os.listdir("/proc/self/fd")) <= before)


PROGRAM = """
import asyncio
import pagemate.multiprocessing as mp
messages = mp.Queue()
messages.fileno()
async def main():
    waiting = asyncio.create_task(messages.aget())
    await asyncio.sleep(0)
asyncio.run(main())
print("end")
"""


def test_the_thread_keeps_no_program_from_ending():
    program = [sys.executable, "-X", "dev", "-W", "error", "-c", PROGRAM]
    result = subprocess.run(program, timeout=LONG, capture_output=True, text=True)
    assert (result.stdout, result.stderr, result.returncode) == ("end\n", "", 0)
