"""What a table of the report is made of: how it is measured, what is kept of it, how it is shown."""

import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from tests.services.kafka import JavaBroker


@dataclass(frozen=True, slots=True)
class Options:
    """Of the command line; 0 is what the table finds right."""

    ids: int
    rounds: int
    seconds: float
    only: list[str]

    def chooses(self, row: str) -> bool:
        """Whether its name holds one of these texts, or there is none."""
        wanted = [word.strip().lower() for word in self.only if word.strip()]
        return not wanted or any(word in row.lower() for word in wanted)


@dataclass(frozen=True, slots=True)
class Table:
    name: str
    title: str
    report: type[msgspec.Struct]
    measured: Callable[[JavaBroker, Options], Any]
    shown: Callable[[Any], str]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def median(values: Sequence[float], digits: int = 2) -> str:
    """With the least and the most."""
    low, high = min(values), max(values)
    middle = f"{statistics.median(values):,.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({low:,.{digits}f} to {high:,.{digits}f})"


def table(head: str, *lines: str) -> str:
    """Markdown. `head`: the names of the columns, with | between them."""
    return "\n".join([f"| {head} |", "|---" * (head.count(" | ") + 1) + "|", *lines])


def line(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def in_rounds(name: str, number: int, of: int) -> str:
    """The name, with the number of its rounds where it has fewer than the others."""
    return name if number == of else f"{name} ({counted(number)})"


def counted(rounds: int) -> str:
    return f"{rounds} round{'s' * (rounds > 1)}"


def load(numbers: Sequence[float]) -> str:
    return f"load average before them {', '.join(f'{number:.1f}' for number in numbers)}"
