"""deploy/pack.sh: which files are packed. `make pack-check` packs all, and installs that."""

import subprocess
import tarfile
from pathlib import Path

from tests.deploy.frames import GIT, committed, write
from tests.program import ROOT, outside_of_make


def packed(source: Path) -> set[str]:
    """The files of the tree in the archive, without the wheels."""
    (source / "deploy/wheels").mkdir(parents=True)
    write(source, {"cyclonedx": '#!/bin/sh\ntouch "$5"\n', "deploy/install.sh": ""})
    (source / "cyclonedx").chmod(0o755)
    environ = {**GIT, "CYCLONEDX": str(source / "cyclonedx"), "ENGINE": "false", "PYTHON_IMAGE": "python"}
    command = ["sh", str(ROOT / "deploy/pack.sh"), "out.tar"]
    done = subprocess.run(command, cwd=source, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    tree = "consumer/tree/"
    with tarfile.open(source / "out.tar") as archive:
        return {name.removeprefix(tree) for name in archive.getnames() if name.startswith(tree)}


def test_what_git_would_commit_is_packed(tmp_path: Path) -> None:
    """A file that was deleted, and not yet committed so, ended it: `Cannot stat`."""
    ignored = ".env\nout.tar\n/deploy/\n/cyclonedx\n"
    kept = {"Dockerfile": "", "main.py": "", "a name\nof two lines": "", ".gitignore": ignored}
    committed(tmp_path, {**kept, "docs/gone.md": "", "gone.py": ""})
    write(tmp_path, {"docs/gone.md": None, "gone.py": None, "fresh.py": "", ".env": "secret"})
    (tmp_path / "link").symlink_to("nowhere")
    assert packed(tmp_path) - {"deploy", "deploy/wheels"} == {*kept, "fresh.py", "link"}


def test_the_archive_has_the_name_that_was_given_also_where_that_has_a_blank() -> None:
    """`../my pack.tar` was written to `../my`, over what was there."""
    command = ["make", "-n", "pack", "ARCHIVE=../my pack.tar"]
    told = subprocess.run(command, cwd=ROOT, env=outside_of_make(), capture_output=True, text=True, check=True).stdout
    assert told.endswith(' sh deploy/pack.sh "../my pack.tar"\n')
