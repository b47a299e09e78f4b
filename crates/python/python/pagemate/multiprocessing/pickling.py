"""Picklers for messages, as ``multiprocessing.reduction.ForkingPickler``."""

import collections
import copyreg
import pickle
import types
from multiprocessing import reduction


def new_pickler(write, buffer_callback):
    """Returns a pickler that can be used again, and knows what is registered at any time.

    Unlike the initialiser of ``ForkingPickler``, it does not copy the table of all reductions.
    """
    kind = reduction.ForkingPickler
    pickler = kind.__new__(kind)
    pickle.Pickler.__init__(pickler, types.SimpleNamespace(write=write), 5, True, buffer_callback)
    pickler.dispatch_table = collections.ChainMap(kind._extra_reducers, copyreg.dispatch_table)
    return pickler
