"""Which version of the frame this is: the file `.frame`. Works without git, and in an image. Standard library only."""

import re
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).parents[1] / ".frame"
LONGEST = 20  # characters of a version in a commit
HEAD = "# The version of the frame that this copy has. `make copy` and `make update` write it; leave it as it is.\n"


@dataclass(frozen=True, slots=True)
class FrameVersion:
    """`commit` and `left_out` are empty in a clone of the frame: only what is exported of it has them written in."""

    version: str = ""
    commit: str = ""
    left_out: str = ""

    def __str__(self) -> str:
        version = self.version or "older than 1.0.0"
        return f"{version} ({self.commit[:10]})" if self.commit else version

    @property
    def in_commits(self) -> str:
        """The version, of such characters as may stand there."""
        return re.sub("[^A-Za-z0-9.+-]", "", self.version)[:LONGEST]

    def text(self) -> str:
        return f"{HEAD}version: {self.version}\ncommit: {self.commit}\nleft out: {self.left_out}".rstrip() + "\n"


def frame_version(file: Path = FILE) -> FrameVersion:
    """Without such a file: all empty."""
    try:
        return parsed(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return FrameVersion()


def parsed(text: str) -> FrameVersion:
    lines = [line.split(":", 1) for line in text.splitlines() if ":" in line and not line.startswith("#")]
    values = {name.strip(): value.strip() for name, value in lines}
    version, commit, left_out = (
        "" if "$" in (value := values.get(name, "")) else value  # git has not replaced it
        for name in ("version", "commit", "left out")
    )
    return FrameVersion(version, commit, left_out)
