"""SIGTERM to the first process of a container, in a PID namespace as a container has one."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SAYS_WHEN_IT_RUNS = "import utils.running.first_process, time; print('runs', flush=True); time.sleep(600)"


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
