"""`python main.py check`: tries everything that run needs, and changes nothing."""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from config import EX_CONFIG, Settings
from utils.commands.command import Commands, Environ, add_command, say
from utils.logger import shown
from utils.monitoring.status import Address, Server, place
from utils.running.steps import STEPS, Start, cannot_listen, once, tried

ASK_AGAIN_FOR = 5.0  # seconds: a broker that has never had a consumer group first makes room for them


def add(commands: Commands) -> None:
    add_command(commands, "check", check, "try everything that run needs and say what to do about what fails")


def check(_arguments: argparse.Namespace, environ: Environ) -> int:
    """Try everything that run needs, one line each, and change nothing. Exit 0, or 78 where something must be done."""
    failed = False
    for finding in findings(environ):
        failed = failed or bool(finding.problems)
        for problem in finding.problems or ():
            _print_line("✗", finding.subject, problem)
        if not finding.problems:
            _print_line("-" if finding.problems is None else "✓", finding.subject, finding.seen)
    return EX_CONFIG if failed else 0


class Finding(NamedTuple):
    """What became of a step: its problems (none: all is well; None: it could not be told), and what was seen."""

    subject: str
    problems: Sequence[str] | None
    seen: str = ""


def findings(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Each step, as far as the ones before have found what it needs. Nothing is changed, and nothing waited for."""
    start = Start(environ=environ, listen=could_listen, only_try=True, patience=ASK_AGAIN_FOR)
    lacking = ""
    for step in STEPS:
        if step.needs and not hasattr(start, step.needs):
            lacking = lacking or step.needs
            continue
        seen, problems = tried(partial(once, step, start))
        if problems:
            yield Finding(step.subject, problems)
        for each in seen or ():
            yield Finding(step.subject, [] if each.how == "well" else None, each.text)
    if lacking:
        needed = "broker" if lacking == "cluster" else lacking
        yield Finding("the rest", None, f"not tried: it needs the {needed}")
    start.let_go()


def could_listen(settings: Settings) -> str:
    """Whether a worker could: the address. ConfigError: it could not, for another reason than one that does so now."""
    host, port = settings.http_host, settings.http_port
    try:
        Server(Address(host, port), {}, lambda: None).server_close()  # that of a worker, so that both say the same
    except OSError as error:
        raise cannot_listen(settings, error) from None
    return place(host, port) if port else f"{host}, any free port"


def _print_line(mark: str, subject: str, text: str) -> None:
    try:
        mark.encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        mark = {"✓": "ok  ", "✗": "FAIL"}[mark]
    say(f"{mark} {subject:12} {shown(text)}")
