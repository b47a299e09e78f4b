"""``python -m pagemate``: the program ``pagemate``, without Python's handling of signals."""

import os
import signal
import sys

from . import _pagemate


def main():
    """Runs the program with the arguments of this process. Returns its exit status."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return _pagemate.run_program([b"pagemate", *map(os.fsencode, sys.argv[1:])])


if __name__ == "__main__":
    sys.exit(main())
