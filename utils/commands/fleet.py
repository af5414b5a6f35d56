"""`python main.py fleet`: how all consumers of the table are, seen from the table and the brokers alone."""

import argparse
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path

from sqlalchemy import Engine

from config import ConfigError, Settings, UnavailableError
from models import engine, load, load_all, set_paused
from utils.commands.command import Commands, Environ, add_command, not_empty, say, seconds_of, settings_of
from utils.fleet.pages import POLICY, page
from utils.fleet.verdicts import ConsumerSeen, Level, MemberSeen, runs
from utils.fleet.watcher import FleetSeen, Watcher
from utils.logger import logger, shown
from utils.monitoring.as_json import as_json
from utils.monitoring.report import duration
from utils.monitoring.status import Address, Answer, Server, place

EVERY = 5.0  # seconds between two looks of --watch
TIMEOUT = 3.0  # seconds that a cluster may take to answer
APART = 2.0  # seconds between the first two looks
MARKS: dict[Level, str] = {"bad": "✗", "warning": "!", "ok": "✓"}
HEADS = ("", "consumer", "state", "unread", "not done", "since", "dead", "workers and their partitions", "frame", "")
_RIGHT = {"unread", "not done", "since", "dead"}
_MEMBERS = 40  # characters of the workers' column
_PLAIN = {MARKS["bad"]: "x", MARKS["warning"]: "!", MARKS["ok"]: "-"}  # where the terminal has no such characters


def add(commands: Commands) -> None:
    parser = add_command(commands, "fleet", fleet, "see how all consumers of the table are; pause and resume them")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="only these; after pause or resume: which consumers are meant"
    )
    parser.add_argument("--json", action="store_true", help="all that is known, for programs")
    parser.add_argument(
        "--apart",
        type=seconds_of,
        default=APART,
        metavar="S",
        help=f"seconds between the two looks that tell slow from stuck ({APART:g})",
    )
    parser.add_argument(
        "--html", type=not_empty, metavar="FILE", help="also write one page with a picture, which needs no network"
    )
    parser.add_argument(
        "--serve",
        type=_port,
        metavar="PORT",
        help="serve this page at HTTP_HOST until Ctrl-C, always renewed; 0: any port",
    )
    parser.add_argument("--watch", action="store_true", help=f"look every {EVERY:g} s, until Ctrl-C")
    parser.add_argument(
        "--timeout",
        type=seconds_of,
        default=TIMEOUT,
        metavar="S",
        help=f"seconds that a cluster may take to answer ({TIMEOUT:g})",
    )


def _port(text: str) -> int:
    if text.isdecimal() and int(text) <= 65535:
        return int(text)
    raise argparse.ArgumentTypeError(f"a port is a number from 0 to 65535, not {text}")


def fleet(arguments: argparse.Namespace, environ: Environ) -> int:
    """Look at all consumers of the table, the worst first; exit 1 if one is bad. Nothing is changed.

    `fleet pause NAME…` lets the workers of these rows take in nothing more, `fleet resume NAME…` lets them go on.
    """
    environment = settings_of(environ, name="fleet")
    database = engine(environment.url())
    action, names = "".join(arguments.names[:1]), arguments.names[1:]
    if action in {"pause", "resume"}:
        if names:
            for name, changed in set_paused(database, names, paused=action == "pause").items():
                done = f"{action}d" if changed else f"was {action}d already"
                say(f"{name} {done}{_seen_by_workers(database, environment, name)}")
            return 0
        if action not in {each.consumer_name for each in load_all(database)}:  # else that row is looked at
            raise ConfigError([f"say which consumers are meant: fleet {action} NAME"])
    with closing(Watcher(environment, database, arguments.names, arguments.timeout, arguments.apart)) as watcher:
        seen = watcher.see()
        show = _Shown(environment, arguments, seen)
        with suppress(KeyboardInterrupt):
            while arguments.watch or arguments.serve is not None:
                time.sleep(EVERY)
                seen = watcher.see()
                show.again(seen)
    return 1 if seen.is_bad else 0


def _seen_by_workers(database: Engine, environment: Settings, name: str) -> str:
    """When the workers of this row see a change of it, as far as the row and this environment tell."""
    try:
        every = environment.overlaid(load(database, name).metadatas).config_refresh
    except (ConfigError, UnavailableError):  # also a row that is no good pauses; and what was done is told in any case
        return ""
    if not every:
        return ", but with CONFIG_REFRESH=0 its workers see it only when they start again"
    return f": its workers see it within {every:g} s (CONFIG_REFRESH)"


class _Shown:
    """What was seen last, everywhere where it is asked for."""

    def __init__(self, environment: Settings, arguments: argparse.Namespace, seen: FleetSeen) -> None:
        self._arguments = arguments
        self._seen = seen
        self(seen)
        if arguments.serve is not None:
            say(f"the page: {self._serve(environment)}")

    def __call__(self, seen: FleetSeen) -> None:
        self._seen = seen
        if self._arguments.serve is None or self._arguments.watch:
            _print(seen, for_programs=self._arguments.json, anew=self._arguments.watch and sys.stdout.isatty())
        if self._arguments.html:
            _write(self._arguments.html, page(seen))

    def again(self, seen: FleetSeen) -> None:
        """A disk that is full for a moment takes the page away from nobody."""
        try:
            self(seen)
        except ConfigError as error:
            logger.warning("the page is not written this time", extra={"problems": error.problems})

    def _serve(self, environment: Settings) -> str:
        """From a thread of its own; the address. ConfigError: it cannot be had."""
        host, allowed = environment.http_host, environment.http_allowed_hosts.replace(",", " ").split()
        pages = {"/": self._page, "/fleet.json": self._json, "/health/live": self._live}
        try:
            server = Server(Address(host, self._arguments.serve, allowed), pages, lambda: None)
        except OSError as error:
            where = place(host, self._arguments.serve)
            raise ConfigError([f"--serve: cannot listen on {where} ({error})"]) from None
        threading.Thread(target=server.serve_forever, name="page", daemon=True).start()
        return f"http://{place(host, server.server_port)}/"

    def _page(self, _query: Mapping[str, str]) -> Answer:
        return Answer("text/html; charset=utf-8", page(self._seen, served=True).encode(errors="replace"), POLICY)

    def _json(self, _query: Mapping[str, str]) -> Answer:
        return Answer("application/json", as_json(self._seen) + b"\n")

    def _live(self, _query: Mapping[str, str]) -> Answer:
        """For the health check of the image, in which it may run. How old the page is stands on it."""
        return Answer("application/json", b'{"live": true}\n')


def _write(path: str, text: str) -> None:
    """ConfigError: it cannot be written.

    What is there and is no file, a pipe or a device, is written into: a machine whose /dev/null was replaced is broken.
    """
    try:
        if Path(path).is_file() or not Path(path).exists():
            _replace(Path(os.path.realpath(path)), text)  # a link to a file stays
        else:
            Path(path).write_text(text, encoding="utf-8", errors="replace")
    except OSError as error:
        raise ConfigError([f"--html: {path} cannot be written ({error.strerror})"]) from None


def _replace(file: Path, text: str) -> None:
    """In one piece: who opens it meanwhile sees the one before."""
    beside = file.with_name(f"{file.name}.new")
    try:
        beside.unlink(missing_ok=True)  # somebody's link of that name, say, which would be followed
        with beside.open("x", encoding="utf-8", errors="replace") as new:
            new.write(text)
        beside.replace(file)
    except OSError:  # such as a full disk
        with suppress(OSError):
            beside.unlink()
        raise


def _print(seen: FleetSeen, *, for_programs: bool, anew: bool) -> None:
    if for_programs:
        say(as_json(seen).decode())
        return
    say("\n".join(map(_printable, lines(seen))), clear=anew)


def _printable(line: str) -> str:
    try:
        line.encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        for mark, plain in _PLAIN.items():
            line = line.replace(mark, plain)
    return line


# ---------------------------------------------------------------- One line for each.


def lines(seen: FleetSeen) -> Iterator[str]:
    if seen.problem:
        yield f"{MARKS['bad']} {shown(seen.problem)}"
    rows = [_cells(each) for each in seen.consumers]
    widths = [max(map(len, column)) for column in zip(HEADS, *rows, strict=True)]
    for row in [HEADS, *rows]:
        cells = zip(row, HEADS, widths, strict=True)
        yield "  ".join(
            cell.rjust(width) if head in _RIGHT else cell.ljust(width) for cell, head, width in cells
        ).rstrip()
    yield _summary(seen.consumers)


def _cells(each: ConsumerSeen) -> Sequence[str]:
    letters = each.letters
    return (
        MARKS[each.level],
        shown(each.name),
        each.state,
        _number(each.unread),
        _number(each.unfinished),
        "" if each.age is None else duration(each.age),
        "" if letters is None else f"{'' if letters.exact else '~'}{letters.count:,}",
        _cut(", ".join(map(_member, each.members))),
        shown(" ".join(each.frames)),
        shown(each.sentence),
    )


def _number(number: int | None) -> str:
    return "?" if number is None else f"{number:,}"


def _cut(text: str) -> str:
    return text if len(text) <= _MEMBERS else f"{text[: _MEMBERS - 1]}…"


def _member(each: MemberSeen) -> str:
    """`10.0.0.5 0-3`: siblings have the same numbers in all topics."""
    numbers = runs(sorted({number for numbers in each.partitions.values() for number in numbers}))
    return f"{shown(each.instance or each.host)} {numbers or 'none'}"


def _summary(consumers: Sequence[ConsumerSeen]) -> str:
    counts = {level: sum(each.level == level for each in consumers) for level in MARKS}
    number = f"{len(consumers)} consumer" + ("" if len(consumers) == 1 else "s")
    return f"{number}: {counts['bad']} bad, {counts['warning']} to be looked at, {counts['ok']} well"
