"""Two processes that share a queue, a pipe, two events, a dict and a list.

    python examples/python/two_processes.py                    # on multiprocessing
    python examples/python/two_processes.py pagemate           # on pagemate
    python examples/python/two_processes.py pagemate spawn     # with another start method

The output is the same.
"""

import sys

if sys.argv[1:2] == ["pagemate"]:
    import pagemate.multiprocessing as multiprocessing
else:
    import multiprocessing

COUNT = 10


def process_a(queue, pipe, a_is_done, b_is_done, squares, log):
    """Puts ten numbers into the queue, and receives ten words through the pipe."""
    for n in range(COUNT):
        queue.put({"n": n, "square": n * n})
    words = [pipe.recv() for _ in range(COUNT)]
    log.append(f"a received {' '.join(words)}")
    a_is_done.set()
    assert b_is_done.wait(30)


def process_b(queue, pipe, a_is_done, b_is_done, squares, log):
    """Receives ten numbers from the queue, and sends ten words through the pipe."""
    for _ in range(COUNT):
        item = queue.get()
        squares[item["n"]] = item["square"]
    for n in range(COUNT):
        pipe.send(f"word{n}")
    assert a_is_done.wait(30)
    log.append(f"b received {len(squares)} squares")
    b_is_done.set()


def main():
    if sys.argv[2:]:
        multiprocessing.set_start_method(sys.argv[2])
    with multiprocessing.Manager() as manager:
        queue = multiprocessing.Queue()
        end_of_a, end_of_b = multiprocessing.Pipe()
        events = multiprocessing.Event(), multiprocessing.Event()
        squares, log = manager.dict(), manager.list()
        a = multiprocessing.Process(target=process_a, args=(queue, end_of_a, *events, squares, log))
        b = multiprocessing.Process(target=process_b, args=(queue, end_of_b, *events, squares, log))
        a.start()
        b.start()
        a.join()
        b.join()
        assert a.exitcode == b.exitcode == 0
        print("squares:", dict(sorted(squares.items())))
        print("log:", *log, sep="\n  ")


if __name__ == "__main__":
    main()
