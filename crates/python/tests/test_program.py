"""``python -m pagemate``: the program ``pagemate``."""

import os
import signal
import subprocess
import sys

from conftest import LONG, until


def pagemate(*arguments, **options):
    program = [sys.executable, "-m", "pagemate", *arguments]
    return subprocess.run(program, timeout=LONG, capture_output=True, text=True, **options)


def test_help():
    result = pagemate("--help")
    assert result.returncode == 0 and "Usage: pagemate" in result.stdout and result.stderr == ""


def test_wrong_usage():
    result = pagemate("frobnicate")
    assert result.returncode == 2 and "frobnicate" in result.stderr and result.stdout == ""


def test_send_and_recv():
    name = f"test-python-program-{os.getpid()}"
    command = [sys.executable, "-m", "pagemate", "recv", name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as receiver:
        assert pagemate("send", name, input="through shared memory").returncode == 0
        assert receiver.communicate(timeout=LONG) == ("through shared memory", None)
        assert receiver.returncode == 0
    missing = pagemate("show", name)
    assert missing.returncode == 1 and missing.stderr.startswith("pagemate: ")


def test_interrupt():
    name = f"test-python-program-{os.getpid()}"
    command = [sys.executable, "-m", "pagemate", "send", name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        program.stdin.write("a line\n")
        program.stdin.flush()
        try:
            until(lambda: name in pagemate("ls").stdout)
            program.send_signal(signal.SIGINT)
            assert program.wait(LONG) == -signal.SIGINT
        finally:
            program.kill()
    assert name not in pagemate("ls").stdout
