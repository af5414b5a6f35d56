"""Signals to a process: to the first one of a container, in a PID namespace, and when its terminal closes."""

import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SAYS_WHEN_IT_RUNS = "import utils.running.first_process, time; print('runs', flush=True); time.sleep(600)"


@contextmanager
def at_most_a_minute(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """One that does not do what it should ends, and with it the wait for its output."""
    timer = threading.Timer(60, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def test_it_ends_by_sigterm_before_anything_else_listens() -> None:
    """The kernel drops a signal that process 1 has no handler for."""
    alone = ["unshare", "--pid", "--fork", "--kill-child"]
    if not shutil.which("unshare") or subprocess.run([*alone, "true"], capture_output=True).returncode:
        pytest.skip("no PID namespace can be made here")
    with subprocess.Popen([*alone, sys.executable, "-c", SAYS_WHEN_IT_RUNS], cwd=ROOT, stdout=subprocess.PIPE) as outer:
        try:
            assert outer.stdout
            assert outer.stdout.readline() == b"runs\n"
            [first] = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()
            subprocess.run(["kill", "-TERM", first], check=True)
            assert outer.wait(60) == 128 + signal.SIGTERM
        finally:
            outer.kill()


def test_main_imports_it_before_all_that_takes_time() -> None:
    code = [line for line in (ROOT / "main.py").read_text().splitlines() if line.startswith(("import ", "from "))]
    assert code[0].startswith("import utils.running.first_process")


STOPS = """\
from utils.running.lifetime import stop_on_signals
stopping = stop_on_signals()
print("runs", flush=True)
stopping.wait()
print("stops", flush=True)
input()
"""


def test_a_terminal_that_closes_stops_it_in_order() -> None:
    """The shell and the kernel may tell of it both: that is no second signal."""
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    heard = f"import signal\nsignal.signal(signal.SIGHUP, signal.SIG_DFL)\n{STOPS}"  # these tests may run under nohup
    with subprocess.Popen([sys.executable, "-c", heard], cwd=ROOT, **streams) as process, at_most_a_minute(process):  # type: ignore[call-overload]
        assert process.stdout.readline() == b"runs\n"
        process.send_signal(signal.SIGHUP)
        assert process.stdout.readline() == b"stops\n"
        process.send_signal(signal.SIGHUP)
        process.stdin.write(b"\n")
        process.stdin.close()
        assert process.wait(60) == 0


def test_under_nohup_it_goes_on() -> None:
    nohup = [shutil.which("nohup") or "nohup", sys.executable, "-c", STOPS]
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(nohup, cwd=ROOT, **streams) as process, at_most_a_minute(process):  # type: ignore[call-overload]
        assert process.stdout.readline() == b"runs\n"
        ignored = next(
            line for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if "SigIgn" in line
        )
        assert int(ignored.split()[1], 16) & 1 << signal.SIGHUP - 1
        process.terminate()
        assert process.stdout.readline() == b"stops\n"
        process.stdin.close()
        process.wait(60)
