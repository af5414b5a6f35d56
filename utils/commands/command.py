"""The seam between main.py and its commands: how each adds itself to the command line.

A command is a file of this package with a function `add(commands)`, and a line in COMMANDS of main.py.
"""

import argparse
import re
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TypeAlias, TypeVar

from config import Settings, seconds
from utils.commands.moments import moment
from utils.processing import user_code
from utils.running.streams import others_print_to_stderr, printing

Environ = Mapping[str, str]
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
T = TypeVar("T")
Run = Callable[[argparse.Namespace, Environ], int]
"""What a command does with its arguments and the environment; returns the exit code."""


def add_command(commands: Commands, name: str, run: Run, summary: str) -> argparse.ArgumentParser:
    """The parser of a command, for its arguments. Its `--help` begins with what `run` says of itself."""
    parser: argparse.ArgumentParser = commands.add_parser(name, help=summary, description=run.__doc__)
    parser.set_defaults(command=run)
    return parser


def settings_of(environ: Environ, name: str = "", *, offline: bool = False) -> Settings:
    """Those of the environment, over the user's defaults. `name`: the CONSUMER_NAME where neither has one. `offline`:
    without what says how to reach a database, and without files of secrets, which may not be there.
    """
    with others_print_to_stderr():  # what defaults.py prints is no line of ours
        own = user_code.defaults()
    if offline:
        environ, own = {"DATABASE_URL": "sqlite:///none", **_offline(environ)}, _offline(own)
    is_nameless = name and not (environ.get("CONSUMER_NAME") or own.get("CONSUMER_NAME"))
    return Settings.read({**environ, "CONSUMER_NAME": name} if is_nameless else environ, own)


def _offline(given: Mapping[str, T]) -> dict[str, T]:
    """Properties of Kafka's client stay, but for secrets in files: results must not be larger than they allow."""
    return {
        name: value
        for name, value in given.items()
        if not name.startswith(("DB_", "DATABASE_URL")) and not (name.startswith("KAFKA_") and name.endswith("_FILE"))
    }


def time_of(text: str) -> datetime:
    """The `type` of an argument that is a time."""
    try:
        return moment(text, datetime.now(UTC))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def not_empty(text: str) -> str:
    """The `type` of an argument that is an id, or a file. None is empty; a variable of a shell may be."""
    if text:
        return text
    raise argparse.ArgumentTypeError("must not be empty")


def seconds_of(text: str) -> float:
    """The `type` of an argument that is a number of seconds."""
    try:
        return seconds(zero=True)(text)
    except ValueError as expected:
        raise argparse.ArgumentTypeError(f"must be {expected}, not {text!r}") from None


# What drives a terminal, or turns the direction of writing: lines come from Kafka and from tables, and anybody may have
# written there. Line ends and tabs are ours.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_CLEAR = "\x1b[H\x1b[2J"


def say(text: str, *, clear: bool = False) -> None:
    """Print it at once, also where the terminal has not all of its characters; `clear` it before.

    What drives a terminal is escaped, as in JSON. Errors: see `printing`.
    """
    encoding = sys.stdout.encoding or "utf-8"
    text = _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    with printing():
        print((_CLEAR if clear else "") + text.encode(encoding, "replace").decode(encoding), flush=True)
