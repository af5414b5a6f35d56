"""`.ci/run`: what its end says of tests that failed."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.program import ROOT, outside_of_make

MAKE = """\
#!/bin/sh
[ "$1" != test ] || { mkdir -p .pytest_cache/v/cache; cp failed .pytest_cache/v/cache/lastfailed; exit 1; }
"""
PYTHON = """\
#!/bin/sh
[ "$2" != pytest ] || exit 0  # it passes alone
exec python3 "$@"
"""
FUNCTIONS = (
    (ROOT / ".ci/run").read_text().partition("\nstep install_missing\n")[0] if (ROOT / ".ci/run").exists() else ""
)


@pytest.mark.skipif("\ntests() {" not in FUNCTIONS, reason="this copy has a .ci/run of its own")
@pytest.mark.parametrize(
    ("failed", "is_slim", "is_green"),
    [
        ("tests/integration/test_joining.py::test_a_pair@kafka", False, True),
        ("tests/test_worker.py::test_a_second_message", False, False),
        ("prices/test_rates.py::test_rate", False, False),
        ("tests/test_rates.py::test_rate", True, False),
    ],
)
def test_no_test_of_ones_own_is_run_again_until_it_passes(
    failed: str, is_slim: bool, is_green: bool, tmp_path: Path
) -> None:
    """One that failed after another one, and passed alone, left the pipeline green."""
    (tmp_path / ".ci").mkdir()
    (tmp_path / ".ci/run").write_text(f"{FUNCTIONS}\ntests\n")
    (tmp_path / "failed").write_text(json.dumps({failed: True}))
    if not is_slim:
        (tmp_path / "tests").mkdir()
        (tmp_path / "tests/frame.mk").touch()
    for name, text in {"bin/make": MAKE, ".venv/bin/python": PYTHON}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    environ = outside_of_make()
    environ["PATH"] = f"{tmp_path}/bin:{environ['PATH']}"
    done = subprocess.run(["bash", ".ci/run"], cwd=tmp_path, env=environ, capture_output=True, text=True)
    assert (done.returncode == 0) == is_green, done.stdout + done.stderr
    assert ("run once more, alone" in done.stdout) == is_green
