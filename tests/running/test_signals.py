"""Signals to a process: to the first one of a container, in a PID namespace, and when its terminal closes."""

import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.program import FORWARDING, ROOT, copied
from utils.running.lifetime import AGAIN

SAYS_WHEN_IT_RUNS = "import time; print('runs', flush=True); time.sleep(600)"
IN_THE_FIRST_MOMENT = f"from utils.running import first_moment; first_moment.begin(); {SAYS_WHEN_IT_RUNS}"


@pytest.fixture(autouse=True)
def _in_the_foreground() -> Iterator[None]:
    """A shell that has started all of this in the background has Ctrl-C ignored, and children inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


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
    with subprocess.Popen(
        [*alone, sys.executable, "-c", IN_THE_FIRST_MOMENT], cwd=ROOT, stdout=subprocess.PIPE
    ) as outer:
        try:
            assert outer.stdout
            assert outer.stdout.readline() == b"runs\n"
            [first] = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()
            subprocess.run(["kill", "-TERM", first], check=True)
            assert outer.wait(60) == 128 + signal.SIGTERM
        finally:
            outer.kill()


@pytest.mark.parametrize("arguments", [[], ["run"], ["check"], ["--help"]])
def test_ctrl_c_while_python_imports_ends_it_without_a_word(arguments: list[str], tmp_path: Path) -> None:
    with importing(tmp_path, *arguments) as process:
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60) == (b"", b"")
        assert process.returncode == 1


def test_where_ctrl_c_is_ignored_it_is_so_while_python_imports(tmp_path: Path) -> None:
    """A shell starts so what is to run in the background."""
    with importing(tmp_path, before=("sh", "-c", 'trap "" INT; exec "$0" "$@"')) as process:
        status = Path(f"/proc/{process.pid}/status").read_text()
    [ignored] = [line.split()[1] for line in status.splitlines() if line.startswith("SigIgn")]
    assert int(ignored, 16) & 1 << signal.SIGINT - 1


def test_a_command_may_be_interrupted_as_any_other() -> None:
    """By KeyboardInterrupt, so that it can put away what it has begun."""
    code = "import signal; from utils.running import first_moment; first_moment.begin(); first_moment.over();"
    code += "assert signal.getsignal(signal.SIGINT) is signal.default_int_handler"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_garbage_is_collected_as_soon_as_the_first_moment_is_over() -> None:
    """Else a worker would leak each cycle, such as that of an exception and its traceback."""
    code = "import gc; from utils.running import first_moment; first_moment.begin(); off = not gc.isenabled();"
    code += "first_moment.over(); assert off and gc.isenabled()"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@contextmanager
def importing(directory: Path, *arguments: str, before: Sequence[str] = ()) -> "Iterator[subprocess.Popen[bytes]]":
    """main.py, which is importing one of its files for a long time."""
    its_program = copied(directory / "program", FORWARDING)
    (its_program / "config.py").write_text(f"{SAYS_WHEN_IT_RUNS}  # EX_CONFIG, as the frame's has it\n")
    command, pipe = [*before, sys.executable, "main.py", *arguments], subprocess.PIPE
    with subprocess.Popen(command, cwd=its_program, stdout=pipe, stderr=pipe) as process, at_most_a_minute(process):
        try:
            assert process.stdout
            assert process.stdout.readline() == b"runs\n"
            yield process
        finally:
            process.kill()


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


def test_a_signal_that_is_told_twice_is_one_wish() -> None:
    """`timeout` tells the process and then its group: half of the stops were no stop in order."""
    code = f"{STOPS}import time; time.sleep({2 * AGAIN}); print('on', flush=True); input()"
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, **streams) as process, at_most_a_minute(process):  # type: ignore[call-overload]
        assert process.stdout.readline() == b"runs\n"
        process.terminate()
        time.sleep(AGAIN / 5)  # at once they would be one signal
        process.terminate()
        assert process.stdout.readline() == b"stops\n"
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"on\n"
        process.terminate()
        assert process.wait(60) == 1


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


FORKS = """\
import multiprocessing, os, signal, sys, threading
from utils.running.lifetime import stop_on_signals

os.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), number))  # as early as a signal can come
stopping = stop_on_signals()
ends = []

def process():
    child = multiprocessing.get_context("fork").Process(target=signal.pause)
    child.start()
    child.join(20)
    ends.append(child.exitcode)
    child.kill()

for number in (signal.SIGTERM, signal.SIGHUP):
    thread = threading.Thread(target=process)
    thread.start()
    thread.join()
print(ends, signal.pthread_sigmask(signal.SIG_BLOCK, ()), flush=True)
os.kill(os.getpid(), signal.SIGTERM)
stopping.wait()
print("stops", flush=True)
input()
"""


def test_a_signal_to_a_child_that_process_has_forked_is_one_to_the_child_alone() -> None:
    heard = f"import signal\nsignal.signal(signal.SIGHUP, signal.SIG_DFL)\n{FORKS}"
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", heard], cwd=ROOT, **streams) as process, at_most_a_minute(process):  # type: ignore[call-overload]
        assert process.stdout.readline() == f"{[-signal.SIGTERM, -signal.SIGHUP]} set()\n".encode()
        assert process.stdout.readline() == b"stops\n"
        process.stdin.close()
        process.wait(60)


def test_nothing_that_listens_here_for_signals_is_left_in_a_child() -> None:
    code = """\
import os, signal
from utils.running.lifetime import stop_on_signals
before = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]
stop_on_signals()
if os.fork() == 0:
    after = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]
    os._exit(not (after == before and signal.set_wakeup_fd(-1) == -1))
print(os.WEXITSTATUS(os.wait()[1]), signal.set_wakeup_fd(-1) > 0)
"""
    assert subprocess.check_output([sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, timeout=60) == b"0 True\n"
