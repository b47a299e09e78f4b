"""Shared arrays: the same memory in all processes, whichever way they got it."""

import copy
import os
import pickle
import subprocess
import sys

import numpy
import pagemate.numpy
import pytest
from conftest import LONG, ended


def test_arrays():
    zeros = pagemate.numpy.zeros((3, 4), "i4", order="F")
    assert zeros.shape == (3, 4) and zeros.dtype == "i4" and zeros.flags.f_contiguous and not zeros.any()
    assert (pagemate.numpy.ones(5) == 1).all()
    assert (pagemate.numpy.full((2, 2), 7) == 7).all() and pagemate.numpy.full(2, 1.5).dtype == float
    source = numpy.arange(12).reshape(3, 4)[:, ::-1]
    shared = pagemate.numpy.array(source)
    assert (shared == source).all() and shared.dtype == source.dtype
    assert pagemate.numpy.zeros(()).shape == () and pagemate.numpy.zeros((0, 3)).size == 0
    assert pagemate.numpy.zeros(3, [("a", "i4"), ("b", "f8")])["b"].sum() == 0
    for dtype in (object, [("a", object)]):
        with pytest.raises(TypeError, match="Python objects"):
            pagemate.numpy.zeros(3, dtype)


def test_what_is_computed_is_not_shared():
    shared = pagemate.numpy.ones((4, 4))
    for result in (shared + 1, shared.copy() * 2, numpy.sqrt(shared), shared[[0, 1]], shared[shared > 0]):
        assert not numpy.may_share_memory(result, shared)
    for result in (shared + 1, numpy.sqrt(shared), shared[[0, 1]], shared.sum(axis=0)):
        assert type(result) is numpy.ndarray
    assert isinstance(shared.sum(), float) and isinstance(shared[1, 2], float)
    shared += 1
    assert type(shared) is pagemate.numpy.SharedArray and (shared == 2).all()
    for copied in (copy.deepcopy(shared), pickle.loads(pickle.dumps(shared))):
        copied[0, 0] = 5
        assert shared[0, 0] == 2


def change(arrays, ready):
    arrays["whole"][:] = numpy.arange(100)
    arrays["view"][...] = 7
    arrays["back"][0] = 9
    assert not arrays["fixed"].flags.writeable
    ready.send("done")


def views_of(base):
    fixed = base["rest"][:10]
    fixed.flags.writeable = False
    return {
        "whole": base["whole"],
        "view": base["table"][1:9:2, ::3],
        "back": base["rest"][::-1],
        "fixed": fixed,
    }


def check(base):
    assert (base["whole"] == numpy.arange(100)).all()
    assert (base["table"][1:9:2, ::3] == 7).all() and base["table"].sum() == 7 * 4 * 7
    assert base["rest"][-1] == 9 and base["rest"].sum() == 9


def new_arrays():
    zeros = pagemate.numpy.zeros
    return {"whole": zeros(100), "table": zeros((10, 20), "i2"), "rest": zeros(100_000)}


def test_children(context, start):
    base, (ready, other) = new_arrays(), context.Pipe()
    ended(start(context, change, views_of(base), other))
    check(base)


def change_received(inbox, ready):
    change(inbox.get(), ready)
    assert inbox.get() is None  # the sender of what went through a queue must be there


@pytest.mark.parametrize("kind", ["Queue", "SimpleQueue"])
def test_messages(context, start, kind):
    base, (ready, other) = new_arrays(), context.Pipe()
    inbox = getattr(context, kind)()
    child = start(context, change_received, inbox, other)
    inbox.put(views_of(base))
    assert ready.recv() == "done"
    inbox.put(None)
    ended(child)
    check(base)


def make(way):
    array = pagemate.numpy.zeros(1000)
    array[5] = 1
    way.send(array)


def test_arrays_outlive_their_maker(context, start):
    way, other = context.Pipe()
    ended(start(context, make, other))
    array = way.recv()
    assert array[5] == 1 and array.sum() == 1
    array[6] = 2


def keep(array, way):
    array[0] += 1
    way.send("ready")
    way.recv()


def test_a_killed_process_keeps_nothing(context, start):
    def descriptors():
        return len(os.listdir("/proc/self/fd"))

    context.Process(target=print).start()  # the start method may keep descriptors
    before = descriptors()
    array, (way, other) = pagemate.numpy.zeros(1_000_000), context.Pipe()
    for number in range(1, 4):
        child = start(context, keep, array, other)
        assert way.recv() == "ready"
        child.kill()
        child.join()
        assert array[0] == number
    del array, way, other, child
    assert descriptors() <= before + 4  # sentinels of the children


WITHOUT = """
import sys
sys.modules["numpy"] = None
import pagemate.multiprocessing as mp
queue, pipe = mp.Queue(), mp.Pipe()
queue.put({"a": bytes(1_000_000)})
assert len(queue.get()["a"]) == 1_000_000
try:
    import pagemate.numpy
except ImportError as error:
    print("no numpy")
"""


def test_numpy_is_optional():
    program = [sys.executable, "-c", WITHOUT]
    result = subprocess.run(program, timeout=LONG, capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("no numpy\n", "")
