"""Times Python's pools: python.py KIND TASKS CHUNK SECONDS prints nanoseconds per task.

CHUNK 0 means the chunk size that Pool.map would choose.
"""

import concurrent.futures
import multiprocessing
import statistics
import sys
import time

WORKERS = 2


def successor(n):
    return n + 1


def main():
    kind, (tasks, chunk) = sys.argv[1], map(int, sys.argv[2:4])
    seconds = float(sys.argv[4])
    if kind == "Pool":
        pool = multiprocessing.Pool(WORKERS)
        work = lambda items: pool.map(successor, items, chunk or None)
    else:
        # Its own choice is 1. This is that of Pool.map.
        chunk = chunk or -(-tasks // (4 * WORKERS))
        pool = concurrent.futures.ProcessPoolExecutor(WORKERS)
        work = lambda items: list(pool.map(successor, items, chunksize=chunk))
    items, expected = list(range(tasks)), list(range(1, tasks + 1))
    work(items)  # the workers have begun
    took = []
    while not took or sum(took) < seconds:
        began = time.perf_counter()
        results = work(items)
        took.append(time.perf_counter() - began)
        assert results == expected
    print(statistics.median(took) / tasks * 1e9)
    if kind == "Pool":
        pool.close()
        pool.join()
    else:
        pool.shutdown()


main()
