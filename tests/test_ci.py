"""`.ci/run`: what it installs, and what its end says of tests that failed."""

import json
import shutil
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


of_the_frame = pytest.mark.skipif("\ntests() {" not in FUNCTIONS, reason="this copy has a .ci/run of its own")


@of_the_frame
@pytest.mark.parametrize("is_slim", [False, True])
def test_what_the_image_of_the_pipeline_does_not_have_is_installed(is_slim: bool, tmp_path: Path) -> None:
    """python:…-slim has no git, which the tests of copies and updates call: whole clones were red."""
    (tmp_path / ".ci").mkdir()
    (tmp_path / ".ci/run").write_text(f"{FUNCTIONS}\ninstall_missing\n")
    if not is_slim:
        (tmp_path / "tests").mkdir()
        (tmp_path / "tests/frame.mk").touch()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/apt-get").write_text("#!/bin/sh\n")
    (tmp_path / "bin/apt-get").chmod(0o755)
    (tmp_path / "bin/dirname").symlink_to(shutil.which("dirname") or "dirname")
    (tmp_path / "bin/sh").symlink_to("/bin/sh")
    bash = shutil.which("bash") or "bash"
    done = subprocess.run(
        [bash, ".ci/run"], cwd=tmp_path, env={"PATH": f"{tmp_path}/bin"}, capture_output=True, text=True
    )
    missing = set(done.stdout.removeprefix("missing: ").split())
    assert {"make", "python3", "python3-venv"} <= missing, done.stdout + done.stderr
    assert ({"git", "maven", "chromium"} <= missing) != is_slim


@of_the_frame
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
