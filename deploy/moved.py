"""Lets the scripts of an environment name the place where it is, after it was moved or copied there.

They name the one where it was made, which its stamp tells. `activate` led to no Python, or to that of the other copy.

    python deploy/moved.py .venv/locked
"""

import re
import sys
from pathlib import Path
from shlex import quote


def renamed(script: str, made: str, here: str) -> str:
    """The text of a script. In `activate` the place is a word of a shell."""
    if script.startswith("#!"):
        return script.replace(made, here)
    return re.sub(rf"(['\"]?){re.escape(made)}\1", lambda _: quote(here), script)


def rename(stamp: Path) -> None:
    made = stamp.read_text().rstrip("\n") if stamp.exists() else ""
    here = str(stamp.parent.resolve())
    for script in stamp.parent.glob("bin/*") if made not in ("", here) else ():
        if script.is_file() and not script.is_symlink() and script.read_bytes()[:1] == b"#":  # else it is no script
            text = script.read_text(encoding="utf-8", errors="surrogateescape")
            script.write_text(renamed(text, made, here), encoding="utf-8", errors="surrogateescape")


if __name__ == "__main__":
    rename(Path(sys.argv[1]))
