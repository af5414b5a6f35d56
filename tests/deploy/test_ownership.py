"""deploy/frame/ownership.py: everything that goes by whose a file is says the same."""

import re
import subprocess
from pathlib import Path

from deploy.frame import ownership
from tests.deploy.frames import committed, files_of, of_the_frame
from tests.program import ROOT


def test_documents_name_what_is_the_users(changelog_of_the_frame: str) -> None:
    for text in ((ROOT / "docs/keep-up-to-date.md").read_text(), changelog_of_the_frame):
        for pattern in (*ownership.YOURS, *ownership.YOURS_ONCE_EDITED):
            assert f"`{pattern.removesuffix('/*')}" in text, f"{text[:20]} … does not name {pattern}"


def test_the_directories_of_the_frame_are_all_there_are() -> None:
    listed = re.findall(r"([a-z]+)/ \|", (ROOT / "deploy/image.sh").read_text())
    assert set(ownership.DIRECTORIES) == set(listed)


def test_an_archive_leaves_out_what_a_slim_copy_does_without(tmp_path: Path) -> None:
    frame = committed(tmp_path / "frame", of_the_frame())
    archive = tmp_path / "archive"
    archive.mkdir()
    subprocess.run(f"git -C {frame} archive HEAD | tar -xf - -C {archive}", shell=True, check=True)
    exported = {path.relative_to(archive).as_posix() for path in archive.rglob("*") if path.is_file()}
    assert exported == {path for path in files_of(frame) if not ownership.is_left_out(path)}
    assert "tests/test_worker.py" in exported
    assert not (archive / "tests/deploy").exists()  # nor an empty folder of it
    assert "$" not in (archive / ".frame").read_text()
