"""Lets the scripts of an environment name the place where it is, after it was moved or copied there.

They name the one where it was made. `activate` led to no Python, or to that of the other copy.

    python deploy/moved.py .venv
"""

import re
import subprocess
import sys
from pathlib import Path
from shlex import quote

LONGEST = 127  # bytes of a first line, of which some kernels know no more


def rename(environment: Path) -> None:
    here = str(environment.resolve())
    activate = environment.absolute() / "bin/activate"
    made = named_by(activate) if activate.exists() else ""
    if not made or str(Path(made).resolve()) == here:
        return
    for script in environment.glob("bin/*"):
        if script.is_file() and not script.is_symlink() and script.read_bytes()[:1] == b"#":  # else it is no script
            text = script.read_text(encoding="utf-8", errors="surrogateescape")
            script.write_text(renamed(text, made, here), encoding="utf-8", errors="surrogateescape")


def named_by(activate: Path) -> str:
    """The place that it names: a shell knows how each version of Python has written it."""
    asking = ["sh", "-c", '. "$0" && printf %s "$VIRTUAL_ENV"', str(activate)]
    return subprocess.run(asking, stdout=subprocess.PIPE, text=True).stdout


def renamed(script: str, made: str, here: str) -> str:
    """The text of a script. In `activate` the place is a word of a shell."""
    if not script.startswith("#!"):
        return re.sub(rf"{re.escape(quote(made))}|(['\"]?){re.escape(made)}\1", lambda _: quote(here), script)
    python = rf"{re.escape(made)}/bin/([\w.]+)"
    by_python = re.match(rf"#!{python}\n|#!/bin/sh\n'''exec' \"?{python}\"? \"\$0\" \"\$@\"\n' '''\n", script)
    if by_python:
        return first_lines(f"{here}/bin/{by_python[1] or by_python[2]}") + script[by_python.end() :]
    return script.replace(made, here)


def first_lines(python: str) -> str:
    """As pip writes them: a first line may hold no blank, and is not read to its end where it is long."""
    line = f"#!{python}\n"
    if " " not in python and len(line.encode(errors="surrogateescape")) <= LONGEST:
        return line
    return f"#!/bin/sh\n'''exec' \"{python}\" \"$0\" \"$@\"\n' '''\n"


if __name__ == "__main__":
    rename(Path(sys.argv[1]))
