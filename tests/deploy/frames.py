"""Frames and copies for tests: directories with files, and git repositories made of them."""

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.program import FORWARDING, ROOT, is_the_users, outside_of_make

IGNORED = {".git", ".venv", ".venv-deploy", "venv", ".hypothesis", "__pycache__", "wheels"}
GIT = {
    **outside_of_make(),
    **{f"GIT_{who}_{what}": "t@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_COUNT": "2",
    # Not after each commit: it takes as long as the commit.
    "GIT_CONFIG_KEY_0": "maintenance.auto",
    "GIT_CONFIG_VALUE_0": "false",
    # Hardened: it reads no bare repository that it was not told to read. No update could be made so.
    "GIT_CONFIG_KEY_1": "safe.bareRepository",
    "GIT_CONFIG_VALUE_1": "explicit",
}


def git(directory: Path, *arguments: str) -> str:
    command = ["git", "-C", str(directory), *arguments]
    return subprocess.run(command, env=GIT, check=True, capture_output=True, text=True).stdout.strip()


def files_of(directory: Path) -> dict[str, bytes]:
    """All files by their paths, but for caches, environments and git's own."""
    found = []
    for place, folders, names in os.walk(directory):
        folders[:] = [each for each in folders if not _is_ignored(each)]  # nor looked into: some hold 20,000 files
        found += [Path(place, name) for name in names if not _is_ignored(name)]
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in sorted(found) if path.is_file()}


def _is_ignored(name: str) -> bool:
    return name in IGNORED or name.endswith("_cache")


def of_the_frame() -> dict[str, bytes]:
    """The files of the frame as they are here, and a worker.py, its test and defaults.py that nobody has edited."""
    files = {
        path: content for path, content in files_of(ROOT).items() if not is_the_users(ROOT / path) or "/" not in path
    }
    files["worker.py"] = FORWARDING.read_bytes()
    files["defaults.py"] = b'"""Yours."""\n\nCONSUMER_NAME = ""  # which row\n'
    files["tests/test_worker.py"] = b"from utils.messages import results\n\n\ndef test_it(): assert results\n"
    return files


def write(directory: Path, files: Mapping[str, bytes | str | None]) -> None:
    """Each with this content; None removes it."""
    for path, content in files.items():
        place = directory / path
        if content is None:
            place.unlink()
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content.encode() if isinstance(content, str) else content)


def committed(directory: Path, files: Mapping[str, bytes | str | None]) -> Path:
    """A repository, made where there is none yet, with a commit more: these files."""
    write(directory, files)
    if not (directory / ".git").exists():
        git(directory, "init", "--quiet", "--initial-branch=main")
    git(directory, "add", "--all")
    git(directory, "commit", "--quiet", "-m", "a change")
    return directory


def newest_version(text: str) -> str:
    """That of a CHANGELOG.md."""
    found = re.search(r"^## \[(\d[^\]]*)\]", text, re.MULTILINE)
    return found.group(1) if found else ""
