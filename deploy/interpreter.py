"""Whether Python was built with optimization: without it the worker takes a sixth more CPU (bench/README.md).

The flags of the build tell. A distribution's own Python, in /usr, is optimized, though its flags do not show it.

    python deploy/interpreter.py            says so of this Python, if it was not
    python deploy/interpreter.py better     prints another one of the same version that was, if PATH has one
"""

import os
import shutil
import subprocess
import sys
import sysconfig

HOW_BUILT = "import sys, sysconfig, ensurepip; print(sys.base_prefix, sysconfig.get_config_var('CONFIG_ARGS'))"
"""`ensurepip`: without it a Python makes no environment."""


def note(prefix: str, configured_with: str) -> str:
    """What to say of an interpreter that was built so; '' where it is well."""
    if prefix == "/usr" or "--enable-optimizations" in configured_with:
        return ""
    return (
        f"{prefix}: this Python was built without --enable-optimizations; it runs, but takes a sixth more CPU."
        " The images python:3.x and the packages of Debian and Ubuntu are optimized."
    )


def note_of_this() -> str:
    return note(sys.base_prefix, str(sysconfig.get_config_var("CONFIG_ARGS")))


def better() -> str:
    """The first optimized Python of this version in PATH, such as /usr/bin/python3.11 behind one of pyenv; '' if none.

    Also where this one is optimized.
    """
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for directory in os.get_exec_path() if note_of_this() else ():
        if other := shutil.which(name, path=directory):
            told = subprocess.run([other, "-c", HOW_BUILT], capture_output=True, text=True, check=False)
            prefix, _, configured_with = told.stdout.strip().partition(" ")
            if told.returncode == 0 and not note(prefix, configured_with):
                return other
    return ""


if __name__ == "__main__":
    if sys.argv[1:] == ["better"]:
        print(better())
    elif text := note_of_this():
        print(f"note: {text}", file=sys.stderr)
