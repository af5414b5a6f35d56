"""utils/version.py: `.frame` says what this is of the frame, as far as it was written into it."""

import re
import subprocess
import sys
from pathlib import Path

from tests.deploy.frames import newest_version
from tests.program import ROOT
from utils.version import FrameVersion, frame_version, parsed


def test_what_was_written_is_read_again() -> None:
    written = FrameVersion("1.2.0", "0123456789abcdef", "bench tests")
    assert parsed(written.text()) == written
    assert str(written) == "1.2.0 (0123456789)"


def test_what_git_would_replace_in_an_archive_is_not_known_in_a_clone() -> None:
    assert parsed("version: 1.2.0\ncommit: $Format:%H$\nleft out: $Format:bench$\n") == FrameVersion("1.2.0", "", "")


def test_without_the_file_nothing_is_known(tmp_path: Path) -> None:
    assert frame_version(tmp_path / ".frame") == FrameVersion()
    (tmp_path / ".frame").write_bytes(b"\xff\xfe")
    assert frame_version(tmp_path / ".frame") == FrameVersion()


def test_the_version_is_the_newest_of_the_changelog(changelog_of_the_frame: str) -> None:
    assert frame_version().version == newest_version(changelog_of_the_frame)


def test_the_command_line_tells_it() -> None:
    done = subprocess.run([sys.executable, "main.py", "--version"], cwd=ROOT, capture_output=True, text=True)
    assert re.fullmatch(rf"frame {re.escape(str(frame_version()))}\n", done.stdout)


def test_it_is_told_also_where_python_looks_for_nothing_beside_the_program() -> None:
    """PYTHONSAFEPATH, as some harden their machines, was a traceback: no module named utils."""
    told = subprocess.run(
        [sys.executable, ROOT / "main.py", "--version"],
        env={"PYTHONSAFEPATH": "1"},
        cwd="/",
        capture_output=True,
        text=True,
    )
    assert (told.returncode, told.stdout.split()[:1]) == (0, ["frame"]), told.stderr
