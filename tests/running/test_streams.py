"""utils/running/first_moment.py: a process whose standard streams were closed before its start."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.program import ROOT, program
from tests.services.processes import HOST, free_port

TIMEOUT = 60
OPENED = """
import json, os, sys
from utils.running.first_moment import open_missing_streams
open_missing_streams()
print(sys.stdin.read(), "to", "nobody")
print("nor these", file=sys.stderr)
with open(sys.argv[1], "w") as told:
    json.dump([told.fileno(), [os.path.samestat(os.fstat(each), os.stat(os.devnull)) for each in (0, 1, 2)]], told)
"""


def command(closing: str, *arguments: str) -> list[str]:
    return ["sh", "-c", f'exec "$0" "$@" {closing}', sys.executable, *arguments]


def environment(url: str, name: str = "orders") -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "CONSUMER_NAME": name, "DATABASE_URL": url}


def test_no_file_gets_the_number_of_a_stream_that_was_closed(tmp_path: Path) -> None:
    told = tmp_path / "told"
    subprocess.run(command("<&- >&- 2>&-", "-c", OPENED, str(told)), cwd=ROOT, check=True, timeout=TIMEOUT)
    number, are_null = json.loads(told.read_text())
    assert number > 2
    assert are_null == [True, True, True]


def test_a_worker_without_output_stops_in_order() -> None:
    url = f"mysql://u:p@{HOST}:{free_port()}/d"
    with subprocess.Popen(
        command(">&-", "main.py"), cwd=program(), env=environment(url), stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr
        assert any("waiting: " in line for line in iter(process.stderr.readline, ""))
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
        assert process.wait(TIMEOUT) == 0
    assert "Traceback" not in rest


@pytest.mark.parametrize("closing", ["2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_worker_to_whose_log_nobody_listens_begins_all_the_same(closing: str, sqlite_url: str) -> None:
    done = subprocess.run(command(closing, "main.py"), cwd=program(), env=environment(sqlite_url), timeout=TIMEOUT)
    assert done.returncode == 78, "it has come as far as the database, which is not there"
