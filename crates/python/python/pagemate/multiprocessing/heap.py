"""The standard library's module, under the name that a changed import looks for."""

import multiprocessing.heap as _module
import sys

sys.modules[__name__] = _module
