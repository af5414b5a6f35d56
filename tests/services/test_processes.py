"""Server processes: an early end is told with its log, and none outlives its starter."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.services.processes import ServerProcess, free_port, running


def test_a_server_that_ends_at_its_start_is_an_error_that_shows_its_log(tmp_path: Path) -> None:
    server = ServerProcess(["sh", "-c", "echo no disk; exit 3"], ready=lambda: False, log=tmp_path / "log")
    with pytest.raises(RuntimeError, match=r"(?s)ended with 3.*no disk"), running(server):
        pass


def test_a_server_that_is_not_ready_in_time_is_an_error_and_stopped(tmp_path: Path) -> None:
    server = ServerProcess(["sleep", "600"], ready=lambda: False, log=tmp_path / "log")
    with pytest.raises(RuntimeError, match="not ready"):
        server.start(seconds=0.1)
    server.stop()
    assert not is_alive(server.pid)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_a_server_ends_when_its_starter_is_killed(tmp_path: Path) -> None:
    program = f"""
from pathlib import Path
from tests.services.processes import ServerProcess
log = Path("{tmp_path}/log")
server = ServerProcess(["sh", "-c", "echo up; exec sleep 600"], ready=lambda: log.read_text() == "up\\n", log=log)
server.start()
print(server.pid, flush=True)
input()
"""
    starter = [sys.executable, "-c", program]
    with subprocess.Popen(starter, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.kill()
    deadline = time.monotonic() + 60
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_alive(pid)


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie, which waits only for its parent, does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_no_port_is_given_twice_nor_by_two_processes_of_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[set[int]] = []
    for name in ("gw0", "gw1", "gw11"):
        monkeypatch.setenv("PYTEST_XDIST_WORKER", name)
        given.append({free_port() for _ in range(100)})
    monkeypatch.delenv("PYTEST_XDIST_WORKER")
    given.append({free_port() for _ in range(100)})
    assert len(set.union(*given)) == 400
    assert len({port % 16 for port in set.union(*given)}) == 4
