"""The pages as a browser or a program gets them, of a worker with fakes around it."""

import gc
import html
import json
import logging
import re
import threading
import time
import weakref
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, cast

import pytest

from config import Settings
from tests.builders import dispatcher, group
from tests.processing.test_dispatcher import FakeRunner
from tests.test_framework import A0, B0, INTERVAL, Bench
from utils.errors import is_of_the_frame
from utils.joining.dead_letters import REASONS
from utils.joining.messages import LONGEST_ID, Message
from utils.logger import _json, logger
from utils.monitoring.pages import NEWEST, POLICY, shown
from utils.monitoring.status import Answer
from utils.monitoring.watch import OLDEST, REMEMBERED, TELL_EVERY, Watch
from utils.processing.attempts import OUTAGE
from utils.processing.outcome import InFlight, Outcome, Process, attempt
from utils.processing.single_thread import SingleThread

HOSTILE = [
    "<script>alert(1)</script>",
    "'\"><img src=x onerror=alert(1)>",
    "&lt;b&gt;",
    "abc\u202edef\u2066ghi",
    "nul\0and\x1b[31m",
    "two\nlines\u2028three",
    "\u200b",
    "x" * LONGEST_ID,
    "a" + "\u0301" * (LONGEST_ID - 1),
    "  ",
    "\U0001f600 日本語 ع",
]


class Watched(Bench):
    """A worker that turns in a thread of its own, and whoever watches it."""

    def __init__(self, **environ: str) -> None:
        settings = Settings.read({"CONSUMER_NAME": "orders", "DATABASE_URL": "mysql://u:topsecret@h/d", **environ})
        super().__init__()
        self.watch = Watch(settings, self.clock, self.clock.wall)
        self.watch.health, self.watch.counters = self.health, self.counters
        self.watch.sees(settings.overlaid('{"message_timeout": 60}'), ("a", "b"), ("out",))

    def get(self, path: str, **query: str) -> Answer:
        answers: list[Answer] = []
        asker = threading.Thread(target=lambda: answers.append(self.watch.pages()[path](query)))
        asker.start()
        while asker.is_alive():
            self.step(seconds=0)
            asker.join(0.005)
        return answers[0]

    def page(self, **query: str) -> str:
        return self.get("/", **query).body.decode()

    def json(self, path: str, **query: str) -> Any:
        return json.loads(self.get(path, **query).body)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    """Lines of this file count as the frame's."""
    for module in ("utils.logger", "utils.monitoring.watch"):
        monkeypatch.setattr(f"{module}.is_of_the_frame", lambda path: path in ("", __file__) or is_of_the_frame(path))
    bench = Watched()
    logger.addHandler(bench.watch.memory)
    bench.assign(A0, B0)
    bench.step()
    yield bench
    logger.removeHandler(bench.watch.memory)


def texts(page: str) -> list[str]:
    """The text of each table cell."""
    cells = re.findall(r"<td[^>]*>(.*?)</td>", page, re.DOTALL)
    return [html.unescape(re.sub("<[^>]*>", "", cell)) for cell in cells]


class Tags(HTMLParser):
    """Every element, and every attribute, of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attributes}


# ---------------------------------------------------------------- what waits


def test_the_page_names_what_waits_what_it_lacks_and_when_it_is_given_up(watched: Watched) -> None:
    watched.feed(A0, "order-1")
    watched.step()
    watched.clock.now += 20
    cells = texts(watched.page())
    at = cells.index("order-1")
    assert cells[at : at + 5] == ["order-1", "b", "a", "20 s", "in 40 s"]


def test_the_page_tells_what_is_wrong_with_a_changed_row(watched: Watched) -> None:
    watched.watch.health.refused = ("topic <c> does not exist",)
    assert "topic &lt;c&gt; does not exist" in watched.page()
    assert watched.json("/status.json")["refused"] == ["topic <c> does not exist"]
    watched.watch.health.refused, watched.watch.health.unread = (), True
    assert "The row cannot be read" in watched.json("/status.json")["verdict"]["sentence"]


def test_a_group_that_is_due_says_what_it_waits_for(watched: Watched) -> None:
    watched.feed(A0, "order-1")
    watched.step()
    watched.clock.now += 61
    watched.worker._next_eviction = 1e9
    assert "when what it lacks is read to its end" in texts(watched.page())


def test_an_id_is_looked_for(watched: Watched) -> None:
    watched.feed(B0, "order-1")
    watched.step()
    assert "waits here" in watched.page(id="order-1")
    assert "is not here" in watched.page(id="order-2")
    found = watched.json("/waiting.json", id="order-1")
    assert found["waiting"]["missing"] == ["a"]
    missing = watched.json("/waiting.json", id="order-2")
    assert (missing["waiting"], missing["in_flight"]) == (None, None)


def test_what_is_in_process_is_shown_with_how_long_it_has_been(watched: Watched) -> None:
    watched.executor.hold = 1e9
    watched.feed(A0, "order-1", "order-2")
    watched.feed(B0, "order-1", "order-2")
    watched.step()
    page = watched.page(id="order-1")
    assert "In process() or on the way: 2 ids" in page
    assert "has been in <code>process()</code> for 1.0 s" in page
    assert watched.json("/status.json")["snapshot"]["calls"] == [{"id": "order-1", "seconds": 1}]


def test_a_call_that_hangs_is_shown_also_when_its_message_is_a_dead_letter(watched: Watched) -> None:
    watched.executor.hold = 1e9
    watched.feed(A0, "order-1")
    watched.feed(B0, "order-1")
    watched.step()
    watched.executor.in_flight = 0
    assert "order-1" in watched.page().split("<h2>In process() or on the way: 1 ids</h2>")[1].split("</section>")[0]


def test_an_id_on_its_way_to_process_is_found_also_where_another_group_of_it_waits(watched: Watched) -> None:
    watched.executor.hold = 1e9
    watched.feed(A0, "order-1", "order-2")
    watched.feed(B0, "order-1", "order-2")
    watched.step()
    watched.feed(A0, "order-2")
    watched.step()
    page = watched.page(id="order-2")
    assert "is complete and waits for <code>process()</code>." in page
    assert "waits here" in page
    found = watched.json("/waiting.json", id="order-2")
    assert found["in_flight"] == {"state": "queued", "seconds": 0, "failed": 0}
    assert found["waiting"]["missing"] == ["b"]


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (InFlight("called", 75.0, 2), "has been in <code>process()</code> for 1 min 15 s, after 2 failed attempts."),
        (InFlight("queued", 0.0, 1), "waits for <code>process()</code>, after 1 failed attempt."),
        (InFlight("tried again", 4.0, 2), "is tried again in 4.0 s, after 2 failed attempts."),
        (InFlight("tried again", -4.0, 0), "is tried again when <code>process()</code> succeeds."),
    ],
)
def test_what_is_in_flight_says_how_it_is(watched: Watched, found: InFlight, words: str) -> None:
    watched.executor.find = lambda id: found if id == "order-1" else None  # type: ignore[method-assign]
    assert words in watched.page(id="order-1")
    assert watched.json("/waiting.json", id="order-1")["in_flight"]["failed"] == found.failed


def test_an_open_circuit_is_the_first_thing_that_the_page_says(watched: Watched) -> None:
    assert watched.json("/status.json")["snapshot"]["circuit_open_for"] is None
    watched.executor.circuit_open_for, watched.executor.in_flight = 90.0, 1
    assert "Circuit open: process() has failed for all ids for 1 min 30 s." in watched.page()
    assert watched.json("/status.json")["snapshot"]["circuit_open_for"] == 90


def test_without_a_worker_the_page_is_there_and_says_so() -> None:
    watch = Watch(Settings.read({"CONSUMER_NAME": "orders", "DATABASE_URL": "sqlite:///x"}))
    page = watch.pages()["/"]({"id": "1"}).body.decode()
    assert "Starting: waiting for the database or for Kafka." in page
    assert "No answer about" in page


def test_half_a_character_in_the_log_leaves_the_answers_readable(watched: Watched) -> None:
    facts = {
        "name": logger.name,
        "msg": "a file is called \ud800",
        "levelno": logging.WARNING,
        "levelname": "WARNING",
        "id": "\udc80",
    }
    watched.watch.memory.emit(logging.makeLogRecord(facts))  # not by the log, which pytest-xdist could not send on
    assert watched.json("/status.json")["troubles"][0]["message"] == "a file is called \ud800"
    assert "a file is called" in watched.page()


def test_only_the_oldest_are_on_the_page_and_more_in_the_json(watched: Watched) -> None:
    watched.feed(A0, *[f"order-{number}" for number in range(OLDEST + 5)])
    watched.step()
    page = watched.page()
    assert f"order-{OLDEST - 1}<" in page
    assert f"order-{OLDEST}<" not in page
    assert len(watched.json("/waiting.json")["oldest"]) == OLDEST
    assert len(watched.json("/waiting.json", limit=str(OLDEST + 3))["oldest"]) == OLDEST + 3
    assert watched.json("/waiting.json", limit="-1")["waiting"] == OLDEST + 5


# ---------------------------------------------------------------- hostile input


@pytest.mark.parametrize("id", HOSTILE)
def test_a_hostile_id_is_harmless_wherever_it_is_shown(watched: Watched, id: str) -> None:
    plain = Tags(watched.page(id="order-1"))
    watched.feed(A0, id, "order-1")
    watched.step()
    logger.error("process() failed", extra={"id": id})
    page = watched.page(id=id)
    with_waiting = Tags(watched.page(id="order-1"))
    assert "waits here" in page
    assert Tags(page).tags <= plain.tags | with_waiting.tags | {"mark", "bdi", "span"}
    assert not {name for name in Tags(page).attributes if name.startswith("on")}
    assert page.count("<script") == 1
    main = page.partition("<main>")[2]
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f\u200b-\u200f\u2028-\u202e\u2066-\u2069]", main)
    assert "x" * 300 not in main
    assert main.count("\u0301") < 1000


def test_what_cannot_be_seen_is_marked_by_its_code() -> None:
    assert shown("a\u202eb") == "<bdi>a<mark>\\u202e</mark>b</bdi>"
    assert shown("a\0") == "<bdi>a<mark>\\u0000</mark></bdi>"
    assert shown("\u00a0") == "<bdi><mark>\\u00a0</mark></bdi>"
    assert shown(" a b ") == "<bdi>\u2420a b\u2420</bdi>"


def test_long_text_is_cut_and_its_length_told() -> None:
    assert shown("x" * 65).startswith(f"<bdi>{'x' * 64}</bdi>")
    assert "65 characters" in shown("x" * 65)
    assert "characters" not in shown("x" * 64)


class Inline(FakeRunner):
    """Calls process() when it is asked for outcomes."""

    def __init__(self, process: Process) -> None:
        super().__init__(one_by_one=False)
        self._process = process

    def collect(self, timeout: float) -> list[Outcome]:
        self.done += [attempt(self._process, group, "name") for group in self.cancel()]
        return super().collect(timeout)


def test_payloads_are_never_shown(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    def process(message: Message, _name: str) -> None:
        raise ValueError(f"cannot take {message}")

    calls = dispatcher(Inline(process), attempts=2, backoff=INTERVAL, counters=watched.counters, clock=watched.clock)
    watched.worker.executor = calls
    secret = [{"id": str(number), "content": {"card": "4711-0815"}} for number in range(OUTAGE + 1)]
    watched.feed(A0, *secret[:2], b"4711-0815 is no JSON")
    watched.feed(B0, secret[0])
    watched.settle_down()
    for at in (A0, B0):
        watched.feed(at, *secret[2:])
    watched.settle_down()
    found = watched.json("/waiting.json", id="0")["troubles"]
    assert {each["message"] for each in found} == {"process() failed and is tried again", "process() failed"}
    told = [each["error"] or each["facts"]["error"] for each in watched.json("/status.json")["troubles"]]
    assert watched.counters.outages == 1
    assert sum(each.startswith("ValueError at test_watch.py:") for each in told) == len(told) - 1  # one is no JSON
    shown_somewhere = [watched.page(id=id) for id in ("0", "1", "2")]
    shown_somewhere += [watched.get(path).body.decode() for path in ("/status.json", "/waiting.json", "/metrics")]
    shown_somewhere += map(_json("orders").format, caplog.records)
    for answer in shown_somewhere:
        assert "4711-0815" not in answer, "its first half alone may be in the time of a line"


def test_the_policy_lets_no_script_run_but_the_pages_own(watched: Watched) -> None:
    answer = watched.get("/")
    assert answer.policy == POLICY
    assert "default-src 'none'" in POLICY
    assert "unsafe" not in POLICY
    page = answer.body.decode()
    assert not {"style"} & Tags(page).attributes
    assert not re.search(r'(src|href)="(https?:)?//', page)


# ---------------------------------------------------------------- failures, settings, charts


def test_what_failed_is_shown_with_the_newest_first(watched: Watched) -> None:
    logger.warning("partitions lost")
    logger.error("invalid message", extra={"source": "a:0:7", "error": "no id"})
    troubles = watched.json("/status.json")["troubles"]
    assert [each["message"] for each in troubles] == ["invalid message", "partitions lost"]
    assert troubles[0]["facts"] == {"source": "a:0:7", "error": "no id"}
    assert "source=a:0:7 error=no id" in " ".join(texts(watched.page()))


def test_of_what_worker_py_logs_itself_the_page_shows_where_and_no_text(watched: Watched) -> None:
    """The page has no login and promises to show no payload; what process() logged stood there as it was."""
    for path in ("/app/worker.py", "/app/mine/prices.py"):
        line = logging.LogRecord("consumer", logging.ERROR, path, 12, "refused: %s", ("4111",), None)
        vars(line).update(order={"card": "4111"}, id="7")
        watched.watch.memory.emit(line)
    status = watched.json("/status.json")
    [prices, worker] = status["troubles"]
    assert prices["message"] == "prices.py:12 has logged this: the log has its text"
    assert (worker["message"].split()[0], worker["facts"], worker["level"]) == ("worker.py:12", {"id": "7"}, "ERROR")
    assert "2 errors in the last ten minutes" in status["verdict"]["sentence"]
    assert len(watched.json("/waiting.json", id="7")["troubles"]) == 2
    assert "4111" not in json.dumps(status) + watched.page()


def refusing(log: logging.Logger, stacklevel: int) -> Process:
    """process() of a worker.py that logs in a function of its own."""
    code = """
def refuse(content):
    log.error("refused %s", content, stacklevel=stacklevel, extra={"id": "7", "card": content})

def process(message, consumer_name):
    refuse("4111")
"""
    names: dict[str, Any] = {"log": log, "stacklevel": stacklevel}
    exec(compile(code, "/app/worker.py", "exec"), names)
    return cast(Process, names["process"])


@pytest.mark.parametrize("name", [logger.name, f"{logger.name}.mine"])
@pytest.mark.parametrize(
    ("stacklevel", "place"), [(1, "worker.py:3"), (2, "worker.py:6"), (3, "worker.py:3"), (4, "worker.py:3"), (99, "")]
)
def test_whatever_place_worker_py_gives_for_what_it_logs_the_page_shows_no_text_of_it(
    watched: Watched, stacklevel: int, place: str, name: str
) -> None:
    """With a `stacklevel` the place was that of the frame, which calls process(), and the page showed the payload."""
    process = refusing(logging.getLogger(name), stacklevel)
    attempt(process, group("7"), "orders")
    [trouble] = watched.json("/status.json")["troubles"]
    assert trouble["facts"] == {"id": "7"}
    assert "4111" not in json.dumps(trouble) + watched.page()
    if name != f"{logger.name}.mine":
        assert trouble["message"].startswith(place)


def test_lines_of_the_frame_are_told_from_those_of_its_user() -> None:
    root = Path(__file__).parents[2]
    assert all(is_of_the_frame(str(root / name)) for name in ("framework.py", "main.py", "utils/sending/outbox.py"))
    assert not any(is_of_the_frame(str(root / name)) for name in ("worker.py", "defaults.py", "mine/prices.py"))


def test_a_search_shows_what_the_log_said_of_the_id(watched: Watched) -> None:
    logger.error("process() failed", extra={"id": "1"})
    logger.warning("given up", extra={"missing_topics_by_id": {"2": ["b"]}})
    assert [each["message"] for each in watched.json("/waiting.json", id="1")["troubles"]] == ["process() failed"]
    assert [each["message"] for each in watched.json("/waiting.json", id="2")["troubles"]] == ["given up"]
    assert watched.json("/waiting.json", id="3")["troubles"] == []


def test_a_search_for_a_long_id_finds_what_the_log_has_cut(watched: Watched) -> None:
    logger.error("result too large", extra={"id": "x" * 900_000})
    (trouble,) = watched.json("/waiting.json", id="x" * 900_000)["troubles"]
    assert trouble["message"] == "result too large"
    assert len(json.dumps(watched.json("/status.json"))) < 20_000


def test_only_so_many_failures_are_remembered(watched: Watched) -> None:
    for _ in range(REMEMBERED + 5):
        logger.error("invalid message")
    assert len(watched.json("/status.json")["troubles"]) == REMEMBERED
    logger.info("no trouble at all")
    assert watched.json("/status.json")["troubles"][0]["message"] == "invalid message"


def test_warnings_push_no_error_out_of_memory(watched: Watched) -> None:
    """It was forgotten after 100 retries, and the verdict said that all is well."""
    logger.error("records were deleted before they were read")
    watched.clock.now += 1
    for _ in range(REMEMBERED + 5):
        logger.warning("process() failed and is tried again")
    status = watched.json("/status.json")
    assert status["verdict"] == {
        "level": "warning",
        "sentence": "Idle: all that has come is read. 1 error in the last ten minutes.",
    }
    assert status["troubles"][-1]["message"] == "records were deleted before they were read"
    assert len(status["troubles"]) == REMEMBERED + 1


def test_the_page_shows_errors_that_are_older_than_all_its_warnings(watched: Watched) -> None:
    logger.error("invalid message")
    logger.error("no sibling")
    watched.clock.now += 1
    for _ in range(REMEMBERED):
        logger.warning("process() failed and is tried again")
    cells = texts(watched.page())
    assert cells.count("process() failed and is tried again") == NEWEST - 2
    assert cells.index("no sibling") < cells.index("invalid message")


def test_the_page_shows_no_more_than_the_newest_failures(watched: Watched) -> None:
    for number in range(NEWEST + 5):
        logger.error(f"error {number}")
    cells = texts(watched.page())
    assert f"error {NEWEST + 4}" in cells
    assert [cell for cell in cells if cell.startswith("error ")][-1] == "error 5"


class Rows(list[int]):
    """What process() has read from a database, say."""


def test_of_what_failed_only_text_stays_in_memory(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[weakref.ref[Rows]] = []

    def process(_message: Message, _name: str) -> None:
        rows = Rows()
        held.append(weakref.ref(rows))
        raise ValueError

    monkeypatch.setattr(logger, "propagate", False)  # pytest keeps the lines of the log, too
    watched.delivery.slow = True
    runner = SingleThread(process, "name")  # not Inline: all frames of the loop would stand before that of process()
    runner.open()
    watched.worker.executor = dispatcher(runner, attempts=1, counters=watched.counters, clock=watched.clock)
    watched.feed(A0, "1", "2")
    watched.feed(B0, "1", "2")
    for _ in range(1000):
        watched.step()
        if watched.counters.failed == 2:
            break
    runner.close(10)
    gc.collect()
    assert [each.facts["id"] for each in watched.watch.memory.troubles(0.0)] == ["2", "1"]
    assert (len(watched.delivery.letters), watched.delivery.pending) == (2, 2)
    assert [reference() for reference in held] == [None, None]


def test_a_clock_of_the_host_that_is_set_makes_no_error_new(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an hour back it was one of the last ten minutes for as long, and stood before all that came later."""
    monkeypatch.setattr(logger, "propagate", False)
    at = time.time() + 3600  # before the clock was set back
    record = logging.LogRecord(logger.name, logging.ERROR, "", 1, "an old one", None, None)
    record.created = at
    logger.handle(record)
    watched.clock.now += 700
    logger.warning("a new one")
    shown = watched.json("/status.json")
    assert [(each["message"], each["age"] < 600) for each in shown["troubles"]] == [
        ("a new one", True),
        ("an old one", False),
    ]
    assert "errors" not in shown["verdict"]["sentence"]


def test_a_line_of_the_log_that_cannot_be_shown_harms_nobody(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    class Unshowable:
        def __str__(self) -> str:
            raise ValueError

    monkeypatch.setattr(logging, "raiseExceptions", False)  # else logging prints that it could not be shown
    monkeypatch.setattr(logger, "propagate", False)
    logger.warning("of worker.py", extra={"order": Unshowable()})
    logger.warning("partitions lost")
    assert [each["message"] for each in watched.json("/status.json")["troubles"]] == ["partitions lost"]


def test_settings_are_shown_with_their_source_and_without_secrets() -> None:
    bench = Watched(COMMIT_INTERVAL="0.5", KAFKA_SASL_PASSWORD="topsecret")
    settings = {each["name"]: each for each in bench.json("/status.json")["settings"]}
    assert settings["COMMIT_INTERVAL"] == {"name": "COMMIT_INTERVAL", "value": "0.5", "source": "environment"}
    assert settings["MESSAGE_TIMEOUT"]["source"] == "row"
    assert settings["DELIVERY"]["source"] == "default"
    assert settings["sasl.password"]["value"] == "***"
    assert "topsecret" not in bench.page() + json.dumps(settings)


def test_topics_whose_keys_do_not_fit_are_named(watched: Watched) -> None:
    watched.health.mismatches = {"b": "another <hash>"}
    page = watched.page()
    assert "the keys of b do not fit" in page
    assert "another &lt;hash&gt;" in page
    assert watched.json("/status.json")["mismatches"] == {"b": "another <hash>"}


def test_charts_grow_with_each_tick(watched: Watched) -> None:
    watched.watch.tick()
    watched.counters.read += 50
    watched.clock.now += 5
    watched.watch.tick()
    watched.clock.now += 5
    watched.watch.tick()
    assert watched.json("/status.json")["series"][0]["values"] == [10, 0]
    assert watched.page().count("<polyline") == 4
    assert 'aria-label="messages in: 0 a second, at most 10"' in watched.page()


def test_of_messages_that_are_superseded_it_is_told_every_ten_minutes_at_most(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    """With the order of reading: another one is the cure."""
    watched.watch.settings = watched.watch.settings.overlaid('{"read_order": "time"}')

    def told() -> list[int]:
        watched.watch.tick()
        lines, caplog.records[:] = list(caplog.records), []
        assert {vars(line)["read_order"] for line in lines} <= {"time"}
        return [vars(line)["superseded"] for line in lines]

    assert told() == []
    watched.counters.superseded += 2
    assert told() == [2]
    watched.counters.superseded += 3
    watched.clock.now += TELL_EVERY - 1
    assert told() == []
    watched.clock.now += 1
    assert told() == [3]
    watched.clock.now += TELL_EVERY
    assert told() == []


def test_what_was_too_large_is_no_result_that_went_out(watched: Watched) -> None:
    watched.watch.tick()
    watched.counters.results += 50
    watched.counters.refused_results += 30
    watched.clock.now += 5
    watched.watch.tick()
    assert watched.json("/status.json")["series"][1]["values"] == [4]


def test_times_are_utc(watched: Watched) -> None:
    watched.clock.now = 60.0  # after the 1,700,000,000th second of the epoch
    assert watched.json("/status.json")["time"] == "2023-11-14T22:14:20Z"
    assert "2023-11-14 22:14:20 UTC" in watched.page()


def test_topics_count_from_zero_as_soon_as_they_are_known(watched: Watched) -> None:
    for counts in (watched.counters.read_from, watched.counters.evicted_without):
        assert dict(counts) == {"a": 0, "b": 0}
    assert dict(watched.counters.dead_letters) == dict.fromkeys(REASONS, 0)
