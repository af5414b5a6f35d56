"""One call of process() with each of some messages, and what is told of it. Sends and commits nothing."""

import json
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from config import ConfigError
from utils.commands.cases import Anonymous, Case, case_of, group_of
from utils.commands.difference import changes
from utils.commands.samples import Samples, lacking_by_topic
from utils.errors import Quotable, named
from utils.joining.aggregator import Group
from utils.joining.dead_letters import text_of
from utils.joining.messages import InvalidMessage, Message, Result, join
from utils.kafka.limits import RECORD_OVERHEAD
from utils.logger import cut, shown
from utils.processing.executor import Executor
from utils.processing.outcome import Outcome, TookTooLong, is_async

SLOWEST = 5  # calls that are told
EXAMPLES = 5  # ids, or results of one message, that a line or a message tells at most


@dataclass(slots=True)
class Timed:
    """process(), with a note of how long each call took."""

    process: Callable[[Message, str], Any]
    clock: Callable[[], float] = time.perf_counter
    calls: list[tuple[str, float]] = field(default_factory=list)

    def wrapped(self) -> Callable[[Message, str], Any]:
        """A coroutine function where process() is one."""
        return self._call_async if is_async(self.process) else self._call

    def _call(self, message: Message, consumer_name: str) -> Any:
        id, began = str(message.get("id")), self.clock()
        try:
            return self.process(message, consumer_name)
        finally:
            self.calls.append((id, self.clock() - began))

    async def _call_async(self, message: Message, consumer_name: str) -> Any:
        id, began = str(message.get("id")), self.clock()
        try:
            return await self.process(message, consumer_name)
        finally:
            self.calls.append((id, self.clock() - began))


class TooLarge(Quotable):
    """A result that Kafka's client would not take."""


@dataclass(slots=True)
class Trial:
    """What came of it."""

    consumer: str
    outcomes: list[Outcome] = field(default_factory=list)
    not_called: int = 0  # because a call hung, or somebody has stopped it
    why_not: str = ""


def run(groups: Sequence[Group], executor: Executor, stopping: threading.Event, consumer: str, largest: int) -> Trial:
    """Each group once, without further attempts. `largest`: bytes of a record that the client takes.

    `stopping` is set where calls hang.
    """
    trial, rest = Trial(consumer), Counter(map(id, groups))
    executor.submit(list(groups))
    while executor.in_flight and not stopping.is_set():
        for outcome in executor.collect(0.2):
            rest[id(outcome.group)] -= 1
            trial.outcomes.append(_checked(outcome, largest))
    place = {id(group): at for at, group in enumerate(groups)}
    trial.outcomes.sort(key=lambda outcome: place[id(outcome.group)])
    trial.not_called = rest.total()
    return trial


def _checked(outcome: Outcome, largest: int) -> Outcome:
    """As the worker's own client would: a result that is too large is a failure."""
    sizes = [len(each.key) + len(each.value) + RECORD_OVERHEAD for each in outcome.results]
    if not sizes or max(sizes) <= largest:
        return outcome
    error = TooLarge(f"a result of {max(sizes)} bytes, and message.max.bytes is {largest}")
    return Outcome(outcome.group, [], error)


def made_anonymous(groups: Iterable[Group], fields: Sequence[str]) -> list[Group]:
    """The same with other values in these fields. ConfigError where no message has one of them."""
    anonymous, changed = Anonymous(fields, secrets.token_bytes(16)), list[Group]()
    for group in groups:
        try:
            changed.append(group_of(anonymous(join(group.fragments))))
        except InvalidMessage:  # found out once more, when it is called
            changed.append(group)
    if missing := [name for name in fields if name not in anonymous.found]:
        raise ConfigError([f"--anonymous names {name}, which no message has" for name in missing])
    return changed


# ---------------------------------------------------------------- What is told of it.


def report(trial: Trial, samples: Samples, timed: Timed, *, show: bool, as_json: bool) -> Iterator[str]:
    """Lines: each message with the difference of its results, then the counts."""
    tell = _as_json if as_json else _as_text
    for outcome in trial.outcomes:
        yield from tell(outcome, show)
    slowest = sorted(timed.calls, key=lambda call: -call[1])[:SLOWEST]
    yield from (_summary_as_json if as_json else _summary)(trial, samples, slowest)


def failed(trial: Trial, samples: Samples, ids: Collection[str]) -> bool:
    """Whether somebody should look: a failure, an id asked for that could not be tried, or nothing tried at all."""
    tried = {outcome.group.id for outcome in trial.outcomes}
    missing = bool(ids) and len(tried) < len(set(ids))
    return (
        missing or not trial.outcomes or trial.not_called > 0 or any(each.error is not None for each in trial.outcomes)
    )


def cases(trial: Trial) -> Iterator[Case]:
    """Not of what no test sees: it has no message to begin with, or knows no limit of the worker's."""
    for outcome in trial.outcomes:
        if not isinstance(outcome.error, InvalidMessage | TooLarge | TookTooLong):
            yield case_of(trial.consumer, join(outcome.group.fragments), outcome)


def _state(outcome: Outcome) -> str:
    return "failed" if outcome.error is not None else "forwarded" if outcome.results else "filtered"


def _as_text(outcome: Outcome, show: bool) -> Iterator[str]:
    results, state = outcome.results, _state(outcome)
    more = f"{len(results)} results" if len(results) > 1 else ""
    if outcome.error is not None:
        more = _error(outcome.error, show)
    yield f"{shown(cut(outcome.group.id)):20}  {state:9}  {shown(more)}".rstrip()
    if show:
        yield f"    {shown(_text_of_input(outcome.group))}"
    told = results if show else results[:EXAMPLES]
    for number, result in enumerate(told, 1):
        if len(results) > 1 or result.key.decode() != outcome.group.id:
            yield f"  {number}: {shown(result.key.decode())}"
        differences = [shown(change.told(show=show)) for change in _changes(outcome.group, result)]
        yield from (f"    {line}" for line in differences or ["as it came"])
    if len(told) < len(results):
        yield f"  … and {len(results) - len(told)} more"


def _as_json(outcome: Outcome, show: bool) -> Iterator[str]:
    told: dict[str, Any] = {"id": outcome.group.id, "state": _state(outcome)}
    if outcome.error is not None:
        told["error"] = _error(outcome.error, show)
    if outcome.results:
        told["changes"] = [
            [f"{each.sign} {each.path}" for each in _changes(outcome.group, result)] for result in outcome.results
        ]
    if show:
        told["input"] = _text_of_input(outcome.group)
        told["results"] = [{"key": each.key.decode(), "value": each.value.decode()} for each in outcome.results]
    yield json.dumps(told)


def _changes(group: Group, result: Result) -> Iterable[Any]:
    return changes(join(group.fragments), msgspec.json.decode(result.value))


def _text_of_input(group: Group) -> str:
    """The message as process() gets it; where that is none, what its parts are."""
    try:
        return json.dumps(join(group.fragments), ensure_ascii=False)
    except InvalidMessage:
        return " ".join(each.value.decode(errors="backslashreplace") for each in group.fragments)


def _error(error: BaseException, show: bool) -> str:
    text = text_of(error)
    place = named(error)
    return f"{place}: {text}" if show and text and not place.endswith(text) else place


def _summary(trial: Trial, samples: Samples, slowest: Sequence[tuple[str, float]]) -> Iterator[str]:
    counts = Counter(map(_state, trial.outcomes))
    results = sum(len(each.results) for each in trial.outcomes)
    yield ""
    yield f"{counts['forwarded']:8}  forwarded" + (f" ({results} results)" if results != counts["forwarded"] else "")
    yield f"{counts['filtered']:8}  filtered"
    yield f"{counts['failed']:8}  failed"
    for error, count in Counter(named(each.error) for each in trial.outcomes if each.error is not None).most_common():
        yield f"          {count:6}  {shown(error)}"
    if slowest:
        yield "slowest calls: " + ", ".join(f"{shown(cut(id))} {_duration(seconds)}" for id, seconds in slowest)
    if samples.incomplete:
        lacking = ", ".join(f"{count} lack {topic}" for topic, count in lacking_by_topic(samples).most_common())
        some = [*samples.incomplete][-EXAMPLES:]
        yield f"{len(samples.incomplete):8}  incomplete, not tried ({lacking}), such as {shown(', '.join(some))}"
    if samples.invalid:
        where, why = samples.invalid[-1]
        yield f"{len(samples.invalid):8}  no valid messages, such as {where}: {shown(why)}"
    if trial.not_called:
        yield f"{trial.not_called:8}  not called: {trial.why_not}"
    if samples.note:
        yield samples.note


def _summary_as_json(trial: Trial, samples: Samples, slowest: Sequence[tuple[str, float]]) -> Iterator[str]:
    counts = Counter(map(_state, trial.outcomes))
    told = {
        **{state: counts[state] for state in ("forwarded", "filtered", "failed")},
        "results": sum(len(each.results) for each in trial.outcomes),
        "errors": Counter(named(each.error) for each in trial.outcomes if each.error is not None),
        "slowest": [{"id": id, "seconds": seconds} for id, seconds in slowest],
        "incomplete": {id: list(topics) for id, topics in samples.incomplete.items()},
        "invalid": [{"at": where, "why": why} for where, why in samples.invalid],
        "not_called": trial.not_called,
        "note": samples.note,
    }
    yield json.dumps({"counts": told})


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"
