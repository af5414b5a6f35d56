"""utils/running/crashes.py: what a process leaves that crashes with a secret in its memory."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.program import FORWARDING, copied, program
from tests.services.processes import HOST, free_port

SECRET = "top-secret-of-the-core"
TIMEOUT = 60


def crash(command: list[str], directory: Path, environ: dict[str, str], told: str) -> tuple[bool, str]:
    """Whether the kernel wrote a core of it, and all that it printed. SIGSEGV hits it once it has printed `told`."""
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    unlimited = "unlimited" if hard == resource.RLIM_INFINITY else str(hard)
    words = ["prlimit", f"--core={unlimited}:{unlimited}", *command]
    with subprocess.Popen(
        words, cwd=directory, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout
        said = []
        for line in process.stdout:
            said.append(line)
            if told in line:
                process.send_signal(signal.SIGSEGV)
                break
        said.append(process.stdout.read())
        _, status = os.waitpid(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == -signal.SIGSEGV, "".join(said)
    return os.WCOREDUMP(status), "".join(said)


def test_a_crash_leaves_no_core_and_no_secret_but_says_where_it_was(tmp_path: Path) -> None:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LD_LIBRARY_PATH") if name in os.environ}
    sleeping = "import time; print('here', flush=True); time.sleep(60)"
    try:
        dumped, _ = crash([sys.executable, "-c", sleeping], tmp_path, kept, "here")
    except FileNotFoundError:
        pytest.skip("no prlimit")
    if not dumped:
        pytest.skip("this machine writes no cores")
    url = f"mysql://worker:{SECRET}@{HOST}:{free_port()}/rows"
    environ = {**kept, "CONSUMER_NAME": "orders", "DATABASE_URL": url, "PYTHONDONTWRITEBYTECODE": "1"}
    dumped, said = crash([sys.executable, "main.py"], program(), environ, "waiting: ")
    assert not dumped
    assert "Fatal Python error: Segmentation fault" in said
    assert "main.py" in said
    assert SECRET not in said


def test_nor_does_one_while_python_imports(tmp_path: Path) -> None:
    its_program = copied(tmp_path / "program", FORWARDING)
    (its_program / "config.py").write_text("import time; print('here', flush=True); time.sleep(60)  # EX_CONFIG\n")
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LD_LIBRARY_PATH") if name in os.environ}
    try:
        dumped, said = crash([sys.executable, "main.py"], its_program, kept, "here")
    except FileNotFoundError:
        pytest.skip("no prlimit")
    assert not dumped
    assert "Fatal Python error: Segmentation fault" in said
    assert "main.py" in said


def test_a_process_to_whose_errors_nobody_listens_runs_all_the_same() -> None:
    command = ["sh", "-c", 'exec "$0" main.py --version 2>&-', sys.executable]
    done = subprocess.run(command, cwd=program(), stdout=subprocess.PIPE, text=True, timeout=TIMEOUT)
    assert (done.returncode, done.stdout.split()[0]) == (0, "frame")
