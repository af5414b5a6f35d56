"""What the demo shows: a line for each result that says what was joined, and one for each message that was not.

No Kafka, no clock: results and log lines come in, text goes out.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from examples.demo_feed import ORDERS, PAYMENTS, Sample
from utils.errors import Unquoted, is_of_the_frame, place_of

_ID, _ORDER, _PAYMENT, _TOPIC = 6, 35, 23, 8  # widths of the columns
_DIM, _RED, _GREEN, _YELLOW = 2, 31, 32, 33  # codes of ECMA-48


@dataclass(frozen=True, slots=True)
class View:
    colours: bool
    message_timeout: float  # seconds
    file: str  # the one whose process() is shown

    def introduction(self) -> Iterator[str]:
        yield f"Orders and payments of a shop are joined by their id and handed to process() in {self.file}."
        yield "They begin to flow in about 3 seconds. Ctrl-C ends the demo."

    def heading(self, url: str) -> Iterator[str]:
        """Where the status page is, and the columns of what follows."""
        yield f"What waits and how it goes, in a browser: {url}"
        yield ""
        columns = f"{'id':{_ID}}{'from ' + ORDERS:{_ORDER}}{'from ' + PAYMENTS:{_PAYMENT}}waited for"
        yield self._paint(_DIM, columns)

    def result(self, result: Mapping[str, Any], sent: Sequence[Sample]) -> Iterator[str]:
        """A result: what of it each topic brought, which one came last and how much later, what process() added.

        `sent` are the messages of its id, in the order of time.
        """
        given = result.get("content")
        content: dict[str, Any] = given if isinstance(given, dict) else {}
        joined = [_joined(topic, sent, content) for topic in (ORDERS, PAYMENTS)]
        order, payment = (_kept(sample, content) for sample in joined)
        id = self._paint(_GREEN, f"{result.get('id', '')!s:{_ID}}")
        yield f"{id}{_fields(order):{_ORDER}}{_fields(payment):{_PAYMENT}}{_waited(joined)}".rstrip()
        added = {key: value for key, value in result.items() if key not in {"id", "content"}}
        added |= {key: value for key, value in content.items() if key not in order | payment}
        if added:
            yield f"{'':{_ID}}from process(): {_fields(added)}"
        for earlier in _before(joined, sent):
            text = f"{_fields(earlier.content)} on {earlier.topic}, by the later one"
            yield self._note(_YELLOW, "", "superseded", text)

    def log_line(self, record: logging.LogRecord) -> Iterator[str]:
        """A line of the worker's log, as far as it tells of messages or of trouble, or worker.py has written it."""
        extra = record.__dict__
        match record.getMessage() if is_of_the_frame(record.pathname) else None:  # worker.py may say the same words
            case "status page":
                yield from self.heading(extra["url"])
            case "invalid message":
                yield self._note(_RED, "", "invalid", f"{extra['source']}, {extra['error']}")
            case "incomplete messages given up":
                for id, topics in extra["missing_topics_by_id"].items():
                    text = f"nothing came on {', '.join(topics)} within {self.message_timeout:g} s"
                    yield self._note(_YELLOW, id, "given up", text)
            case "process() failed":
                yield self._note(_RED, extra["id"], "process() failed", _reason(record))
            case message if record.levelno >= logging.WARNING or message is None:
                text = ": ".join(filter(None, (record.getMessage(), _reason(record))))
                colour = _RED if record.levelno >= logging.WARNING else _DIM
                yield self._note(colour, extra.get("id", ""), record.levelname.lower(), text)

    def summary(self, counters: Mapping[str, int], shown: int) -> Iterator[str]:
        """Two lines: what has become of all messages that were read, and what to do next."""
        parts = {
            "pairs joined": counters["completed"],
            "given up": counters["evicted"],
            "superseded": counters["superseded"],
            "invalid": counters["invalid"],
        }
        parts["still waiting"] = counters["read"] - sum(parts.values()) - counters["completed"]
        listed = ", ".join(f"{number} {part}" for part, number in parts.items() if number) or "none"
        yield ""
        yield f"{shown} results shown. {counters['read']} messages read: {listed}{_unsent(counters)}."
        advice = f"Now edit process() in {self.file} and start the demo again."
        yield f"{advice} README.md tells how to run it on real topics."

    def _note(self, colour: int, id: object, kind: str, text: str) -> str:
        return f"{id!s:{_ID}}{self._paint(colour, f'{kind}:')} {text}"

    def _paint(self, code: int, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.colours else text


def _unsent(counters: Mapping[str, int]) -> str:
    causes = {"failed in": counters["failed"], "filtered by": counters["filtered"]}
    return "".join(f"; {number} pairs {cause} process()" for cause, number in causes.items() if number)


def _joined(topic: str, sent: Sequence[Sample], content: Mapping[str, Any]) -> Sample | None:
    """Which message of a topic is in the result: the last one, unless only an earlier one is there unchanged."""
    of_topic = [sample for sample in reversed(sent) if sample.topic == topic]
    unchanged = (sample for sample in of_topic if _kept(sample, content) == sample.content)
    return next(unchanged, of_topic[0] if of_topic else None)


def _kept(sample: Sample | None, content: Mapping[str, Any]) -> dict[str, Any]:
    brought = sample.content if sample else {}
    return {key: value for key, value in brought.items() if content.get(key) == value}


def _before(joined: Sequence[Sample | None], sent: Sequence[Sample]) -> Iterator[Sample]:
    """What came before a joined message on its topic."""
    return (each for each in sent for sample in joined if sample and each.topic == sample.topic and each.at < sample.at)


def _fields(fields: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in fields.items())


def _waited(joined: Sequence[Sample | None]) -> str:
    """Which topic came last, and how long after the other."""
    present = sorted(sample for sample in joined if sample)
    if len(present) < 2:
        return ""
    return f"{present[-1].topic:{_TOPIC}} {present[-1].at - present[0].at:.1f} s"


def _reason(record: logging.LogRecord) -> str:
    """The error that a log line carries, and the place in the code where it was raised."""
    error = record.exc_info[1] if record.exc_info else None
    error = error.error if isinstance(error, Unquoted) else error  # all that is in the demo is made up
    if error is None:
        return str(record.__dict__.get("error", ""))  # class and place, where it is tried again
    place = place_of(error)
    return f"{type(error).__name__}: {error}" + (f" ({place})" if place else "")
