"""Makes a slim copy of the frame: the program and what its users need, without the frame's own tests and benchmarks."""

import io
import re
import subprocess
import tarfile
from pathlib import Path
from shlex import quote

from deploy.frame.git import Git, ImpossibleError
from utils.version import frame_version

CONSUMER_NAME = re.compile(r"[A-Za-z0-9._-]{1,200}")  # the rule of config.py, which needs packages
_UNNAMED = re.compile(r'^CONSUMER_NAME = ""', re.MULTILINE)


def made(frame: Path, to: Path, name: str) -> list[str]:
    """Lines that say what was made, and the next three steps."""
    if name and not CONSUMER_NAME.fullmatch(name):
        raise ImpossibleError(f"NAME is the CONSUMER_NAME, 1 to 200 characters of A-Z a-z 0-9 . _ -, not {name!r}")
    if to.exists() and any(to.iterdir()):
        raise ImpossibleError(f"{to} is there, and not empty: choose another place")
    git = Git(frame)
    if git.tries("rev-parse", "--show-prefix") or not git.agrees("rev-parse", "HEAD"):
        raise ImpossibleError(f"{frame} is no clone of the frame: `make copy` makes copies of what is committed in one")
    lines = []
    if git.text("status", "--porcelain"):
        lines.append("what is not committed here is not in the copy")
    to.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(git.run("archive", "--format=tar", "HEAD"))) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.11.2, that of Debian 12, has none
        archive.extractall(to)
    if name:
        defaults = to / "defaults.py"
        defaults.write_text(_UNNAMED.sub(f'CONSUMER_NAME = "{name}"', defaults.read_text()))
    lines.append(f"{to}: a copy of version {frame_version(to / '.frame')}{_repository(to)}")
    return [*lines, "next:", f"  cd {quote(str(to))}", "  make demo      # see it work, with nothing around it", *NEXT]


NEXT = ["  edit worker.py, and tests/test_worker.py, which says what it does; then `make test`; docs/ says the rest"]


def _repository(to: Path) -> str:
    """Begin one, with the copy as its first commit where git knows who you are."""
    git = Git(to)
    if git.agrees("rev-parse", "--show-toplevel"):
        return ", inside the repository that is around it: commit it there"
    git.run("init", "--quiet")
    git.run("add", "--all")
    # Not by Git: it is your commit, and nobody's.
    done = subprocess.run(["git", "commit", "--quiet", "-m", "A copy of the frame"], cwd=to, capture_output=True)
    return ", in a repository of its own" + ("" if done.returncode == 0 else ": commit it there")
