"""Cases for the tests of process(): a message and what came of it, a file of JSON each. And how a message is made
anonymous before process() sees it.

No Kafka. tests/test_worker.py runs the cases; `main.py try --save-tests` writes them.
"""

import asyncio
import hashlib
import hmac
import inspect
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from utils.joining.aggregator import Group
from utils.joining.layout import Layout
from utils.joining.messages import Fragment, Message
from utils.joining.offsets import PartitionOffsets
from utils.processing.outcome import Outcome, attempt, attempt_async, is_async
from utils.processing.runner import nothing

DIRECTORY = Path(__file__).parents[2] / "tests" / "cases"


@dataclass(frozen=True, slots=True)
class Case:
    """A message as process() gets it, and its results: key and value of each; or the class of the error instead."""

    consumer: str
    message: Message
    results: list[list[Any]]
    error: str = ""


def case_of(consumer: str, message: Message, outcome: Outcome) -> Case:
    results = [[each.key.decode(), json.loads(each.value)] for each in outcome.results]
    return Case(consumer, message, results, type(outcome.error).__qualname__ if outcome.error is not None else "")


def save(cases: Iterable[Case], directory: Path = DIRECTORY) -> list[Path]:
    """A file for each, named after the id. One of the same message is written over."""
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for case in cases:
        text = json.dumps(asdict(case), ensure_ascii=False, indent=2)
        written.append(directory / f"{_file_name(case.message)}.json")
        part = written[-1].with_suffix(".part")  # a disk that is full leaves no case that is cut short
        try:
            part.write_text(f"{text}\n", encoding="utf-8")
            part.replace(written[-1])
        finally:
            part.unlink(missing_ok=True)
    return written


def saved(directory: Path = DIRECTORY) -> dict[str, Case]:
    """All cases, by the names of their files. Raises ValueError for a file that holds none."""
    return {file.stem: _read(file) for file in sorted(directory.glob("*.json"))}


def _read(file: Path) -> Case:
    try:
        return Case(**json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{file} holds no case: mend it, or remove it and save it anew") from error


def tried(case: Case, process: Callable[[Message, str], Any]) -> Case:
    """The same message with what this process() makes of it now; results are checked as the worker checks them."""
    group = group_of(case.message)
    if is_async(process):
        outcome = asyncio.run(attempt_async(process, group, case.consumer))
    else:
        outcome = attempt(process, group, case.consumer)
    return case_of(case.consumer, case.message, outcome)


@contextmanager
def opened(worker: ModuleType) -> Iterator[Callable[[Message, str], Any]]:
    """Its process() as a function, after its setup() and before its teardown(). Coroutines run on one event loop."""

    async def awaited(function: Callable[..., Any], *arguments: object) -> Any:
        returned = function(*arguments)
        return await returned if inspect.isawaitable(returned) else returned

    def run(function: Callable[..., Any], *arguments: object) -> Any:
        return loop.run(awaited(function, *arguments)) if is_async(worker.process) else function(*arguments)

    with asyncio.Runner() as loop:
        run(getattr(worker, "setup", nothing))
        try:
            yield partial(run, worker.process)
        finally:
            run(getattr(worker, "teardown", nothing))


def group_of(message: Message) -> Group:
    """A message that is whole, as if it were all of its parts."""
    value = msgspec.json.encode(message)
    return Group(str(message["id"]), (Fragment(0, PartitionOffsets("", 0, Layout(""), 0), 0, value),), len(value))


def _file_name(message: Message) -> str:
    """Some messages may have one id, and ids may hold what no name of a file can."""
    id = str(message["id"])
    digest = hashlib.blake2b(json.dumps(message, sort_keys=True).encode(), digest_size=4).hexdigest()
    return f"{re.sub('[^A-Za-z0-9._-]', '_', id)[:60]}-{digest}"


class Anonymous:
    """Puts other values in the place of some fields: of the same kind and length, and for equal ones equal ones.

    Letters become letters and digits digits; what is true, false or null stays. Nobody can reckon back: `secret` is
    for one run.
    """

    def __init__(self, paths: Sequence[str], secret: bytes) -> None:
        """`paths`: fields such as `content.email`; all that is below one is meant too."""
        self._paths = [path.split(".") for path in paths]
        self._secret = secret
        self.found: set[str] = set()  # those that some message had

    def __call__(self, message: Message) -> Message:
        changed: Any = message
        for path in self._paths:
            changed = self._at(changed, path, ".".join(path))
        return dict(changed)

    def _at(self, value: Any, path: Sequence[str], name: str) -> Any:
        if not path:
            self.found.add(name)
            return self._replaced(value)
        if isinstance(value, list):  # the field of each of its items
            return [self._at(each, path, name) for each in value]
        if isinstance(value, Mapping) and path[0] in value:
            return {**value, path[0]: self._at(value[path[0]], path[1:], name)}
        return value

    def _replaced(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: self._replaced(each) for key, each in value.items()}
        if isinstance(value, list):
            return [self._replaced(each) for each in value]
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return value
        mantissa, e, exponent = repr(value).partition("e")
        return type(value)(re.sub(r"^(-?)0(?=\d)", r"\g<1>1", self._text(mantissa)) + e + exponent)

    def _text(self, text: str) -> str:
        numbers = self._numbers(text)
        return "".join(map(self._character, text, numbers))

    def _numbers(self, text: str) -> bytes:
        """As many as there are characters, told by nothing but the text and the secret."""
        key = hmac.digest(self._secret, text.encode("utf-8", "surrogatepass"), "sha256")
        return hashlib.shake_128(key).digest(len(text))

    @staticmethod
    def _character(character: str, number: int) -> str:
        if character.isdecimal():
            return str(number % 10)
        if character.isalpha():
            letter = chr(ord("a") + number % 26)
            return letter.upper() if character.isupper() else letter
        return character
