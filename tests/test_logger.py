"""The logger: JSON lines for machines, text on a terminal."""

import io
import json
import logging
import logging.config
import subprocess
import sys
import warnings
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from utils.errors import unquoted
from utils.logger import DEEPEST, LONGEST, client_logger, configure, configure_again, logger, stay_heard

ROOT = Path(__file__).parents[1]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    yield from as_it_was()


def as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, heard = list(root.handlers), logger.level, [each for each in all_loggers() if not each.disabled]
    yield
    root.handlers[:] = handlers
    logger.setLevel(level)
    for each in heard:
        each.disabled = False
    logging.captureWarnings(False)


def all_loggers() -> list[logging.Logger]:
    return [each for each in logging.root.manager.loggerDict.values() if isinstance(each, logging.Logger)]


def test_the_tests_of_this_file_leave_the_loggers_of_others_as_they_were() -> None:
    """dictConfig() disabled those of the whole process, and with them what later tests read."""
    theirs = logging.getLogger("tests.theirs")
    around = as_it_was()
    next(around)
    logging.config.dictConfig({"version": 1})
    assert theirs.disabled
    assert not list(around)
    assert not theirs.disabled


def line_of(**fields: Any) -> dict[str, Any]:
    stream = io.StringIO()
    configure("INFO", stream=stream, consumer_name="orders")
    logger.info("a message", extra=fields)
    (line,) = stream.getvalue().splitlines()
    return dict(json.loads(line))


def text_of(**fields: Any) -> str:
    stream = Terminal()
    configure("INFO", stream=stream)
    logger.info("a message", extra=fields)
    return stream.getvalue()


def test_a_line_is_one_json_object_with_its_extra_fields() -> None:
    line = line_of(partitions=4, topic="a")

    assert {key: line[key] for key in line if key != "timestamp"} == {
        "level": "INFO",
        "message": "a message",
        "logger": "consumer",
        "consumer": "orders",
        "partitions": 4,
        "topic": "a",
    }


def test_a_field_of_worker_py_hides_none_of_the_lines_own_nor_is_hidden() -> None:
    """extra={"level": "gold"} took the place of ERROR, and no alert by levels fired; the others vanished."""
    own = {"timestamp": "noon", "level": "gold", "logger": "mine", "consumer": "ours"}
    line, plain = line_of(**own), line_of()
    assert {name: line[name] for name in own if name != "timestamp"} == {
        "level": "INFO",
        "logger": logger.name,
        "consumer": "orders",
    }
    assert datetime.fromisoformat(line["timestamp"]) <= datetime.fromisoformat(line_of()["timestamp"])
    assert line.keys() - plain.keys() == {f"{name}_" for name in own}
    assert [line[f"{name}_"] for name in own] == list(own.values())


def test_the_time_is_iso_8601_in_utc() -> None:
    before = datetime.now(UTC)
    at = datetime.fromisoformat(line_of()["timestamp"])

    assert at.utcoffset() == before.utcoffset()
    assert before <= at <= datetime.now(UTC)


def test_whatever_is_in_a_field_it_stays_one_line() -> None:
    assert line_of(id="two\nlines\u2028 and \ud800 more")["id"] == "two\nlines\u2028 and \ud800 more"


class Mute:
    def __repr__(self) -> str:
        raise RuntimeError("no text")


NO_JSON = {
    "NaN": (float("nan"), "nan"),
    "infinity in a list": ([1.5, float("-inf")], "[1.5, -inf]"),
    "a date as a key": ({date(2026, 1, 2): 3}, "{datetime.date(2026, 1, 2): 3}"),
    "a pair as a key": ({(1, 2): 3}, "{(1, 2): 3}"),
    "a number of 5,000 digits": (10**5000, "__could_not_encode__"),
    "a key without a text": ({Mute(): 1}, "__could_not_encode__"),
    "no text": (Mute(), "__could_not_encode__"),
}


@pytest.mark.parametrize(("value", "shown"), NO_JSON.values(), ids=NO_JSON)
def test_what_json_does_not_know_is_text_and_the_line_and_its_other_fields_stay(value: Any, shown: str) -> None:
    """The line was lost, or was none that a collector of logs can read."""
    line = line_of(score=value, total=1.5)
    assert (line["message"], line["score"], line["total"]) == ("a message", shown, 1.5)
    assert "a message" in text_of(score=value)


def test_nor_is_the_line_lost_of_a_dict_that_is_the_message_and_whose_keys_json_does_not_know() -> None:
    stream = io.StringIO()
    configure("INFO", stream=stream)
    logger.info({date(2026, 1, 2): 3, "total": 1.5})
    line = json.loads(stream.getvalue())
    assert (line["2026-01-02"], line["total"], line["level"]) == (3, 1.5, "INFO")


def test_what_holds_itself_fails_no_call_that_logs_it() -> None:
    """RecursionError is the one that logging lets out: the call of process() had failed, and became a dead letter."""
    order: dict[str, Any] = {"id": 1}
    order["items"] = [{"order": order}]
    line, text = line_of(order=order), text_of(order=order)
    assert line["order"] == {"id": 1, "items": [{"order": "…"}]}
    assert "'id': 1, 'items': [{'order': '…'}]" in text


def deep(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {"id": 1}
    for _ in range(levels):
        value = {"in": value}
    return value


def test_what_is_nested_deep_is_shown_and_what_is_nested_without_end_is_cut() -> None:
    assert line_of(order=deep(12))["order"] == deep(12)
    assert str(line_of(order=deep(5_000))).count("in") <= DEEPEST + 1


@pytest.mark.parametrize("number", [100, 300, 10_000])
def test_many_that_point_back_to_what_holds_them_fill_no_memory(number: int) -> None:
    """A line of 139 MB for 300 items, each of which points to its order; 1,000 had no end."""
    order: dict[str, Any] = {"id": 1}
    order["items"] = [{"order": order} for _ in range(number)]
    line, text = line_of(order=order), text_of(order=order)
    assert line["order"]["items"][:2] == [{"order": "…"}, {"order": "…"}]
    assert max(len(json.dumps(line)), len(text)) < 10_000


def test_nor_do_many_that_point_to_one_another() -> None:
    """The few come first: of the ways between fifty nobody would see the end."""
    for number, longest in ((7, 50_000), (50, 1_000_000)):
        orders: list[dict[str, Any]] = [{} for _ in range(number)]
        for each in orders:
            each["near"] = [*orders]
        assert len(text_of(order=orders[0])) < longest


def test_pairs_that_are_keys_stay_apart_however_many_there_are() -> None:
    """All of them beyond a thousand were the one key "…"."""
    tables = [{(number, each): each for each in range(150)} for number in range(20)]
    assert text_of(tables=tables).count("(19, ") == 150


def test_a_long_id_does_not_fill_the_log_wherever_it_stands_in_a_field() -> None:
    long, cut = "x" * 900_000, "x" * LONGEST + "… 900,000 characters"
    line = line_of(id=long, ids=[long], missing_topics_by_id={long: ("b",)}, sources=[("a:0:1", long)])
    text = text_of(id=long, source="a:0:1")

    assert line["id"] == cut
    assert line["ids"] == [cut]
    assert line["missing_topics_by_id"] == {cut: ["b"]}
    assert line["sources"] == [["a:0:1", cut]]
    assert text.endswith(f"  id='{cut}'  source=a:0:1\n")


def test_a_line_that_lists_hundreds_of_partitions_is_not_too_long_for_who_collects_it() -> None:
    line = line_of(partitions=[f"{'t' * 30}:{number}" for number in range(512)])
    assert line["partitions"][-2:] == [f"{'t' * 30}:199", "… 512 in all"]
    assert len(json.dumps(line)) < 16_384
    lags = line_of(lags={f"{'t' * 30}:{number}": number for number in range(512)})["lags"]
    assert [*lags.items()][-2:] == [(f"{'t' * 30}:199", 199), ("… 512 in all", "…")]


def test_an_id_that_is_not_too_long_is_whole() -> None:
    assert line_of(id="x" * LONGEST)["id"] == "x" * LONGEST


def test_a_traceback_is_a_field_and_whole() -> None:
    stream = io.StringIO()
    configure("INFO", stream=stream)
    try:
        raise ValueError("x" * 2 * LONGEST)
    except ValueError:
        logger.exception("it broke")

    assert json.loads(stream.getvalue())["exc_info"].endswith("ValueError: " + "x" * 2 * LONGEST)


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_a_traceback_of_process_has_no_text_and_others_have(stream: io.StringIO) -> None:
    configure("INFO", stream=stream)
    secret = "4711" + "-0815"  # for the line that raises is shown
    try:
        raise ValueError(secret)
    except ValueError as error:
        logger.error("process() failed", exc_info=unquoted(error))
        told = stream.getvalue()
        logger.error("setup() failed", exc_info=error)

    assert "Traceback (most recent call last)" in told
    assert "ValueError at test_logger.py:" in told
    assert secret not in told
    assert secret in stream.getvalue()


def test_a_handler_of_others_is_not_given_the_text_of_an_error_of_process_either() -> None:
    stream = io.StringIO()
    logging.getLogger().addHandler(logging.StreamHandler(stream))
    secret = "4711" + "-0815"
    try:
        raise ValueError(secret)
    except ValueError as error:
        logger.error("process() failed", exc_info=unquoted(error))

    assert "ValueError at test_logger.py:" in stream.getvalue()
    assert secret not in stream.getvalue()


def test_a_terminal_shows_text_with_the_extra_fields_behind() -> None:
    assert (
        text_of(partitions=4, note="two words").rstrip().endswith("INFO    a message  partitions=4  note='two words'")
    )


@pytest.mark.parametrize("hostile", ["\x1b[2Jcleared", "12:00:00\nERROR", "\u202eright-to-left", "a=1  b=2", ""])
def test_no_field_breaks_the_line_or_drives_the_terminal(hostile: str) -> None:
    text = text_of(id=hostile)

    assert text.removesuffix("\n").endswith(f"  id={hostile!r}")
    assert text.removesuffix("\n").isprintable()


def test_no_message_breaks_the_line_or_drives_the_terminal_either() -> None:
    stream = Terminal()
    configure("INFO", stream=stream)
    logger.critical("no row 'a', but: b\x1b[31m\nc")

    assert stream.getvalue().endswith("but: b\\x1b[31m\\nc\n")


def test_the_level_holds_for_the_worker_and_libraries_are_heard_from_warnings_on() -> None:
    stream = io.StringIO()
    configure("ERROR", stream=stream)
    logger.warning("not this")
    logging.getLogger("library").info("not this")
    logging.getLogger("library").warning("but this")

    assert [json.loads(line)["message"] for line in stream.getvalue().splitlines()] == ["but this"]


def test_another_logger_that_has_a_level_of_its_own_is_heard_from_that_on() -> None:
    """As docs/log-messages.md says of the modules of users."""
    stream = io.StringIO()
    configure("DEBUG", stream=stream)
    other = logging.getLogger("rates")
    other.info("dropped")
    logging.basicConfig(level=logging.INFO)
    other.info("dropped, too")
    other.setLevel(logging.INFO)
    other.info("heard")
    other.setLevel(logging.NOTSET)
    assert [json.loads(line)["message"] for line in stream.getvalue().splitlines()] == ["heard"]


def test_configured_again_it_says_everything_once() -> None:
    first, second = io.StringIO(), io.StringIO()
    configure("INFO", stream=first)
    configure("INFO", stream=second)
    logger.info("once")

    assert first.getvalue() == ""
    assert len(second.getvalue().splitlines()) == 1


def test_where_worker_py_has_put_its_handlers_in_the_place_of_ours_all_is_said_there_and_once() -> None:
    ours, theirs = io.StringIO(), io.StringIO()
    configure("INFO", stream=ours)
    logging.basicConfig(stream=theirs, level="INFO", force=True)
    configure_again("DEBUG", "orders")
    logger.debug("once")

    assert ours.getvalue() == ""
    assert theirs.getvalue() == "DEBUG:consumer:once\n"


@pytest.mark.parametrize("without_handlers", [False, True])
def test_where_worker_py_has_set_up_other_loggers_only_this_one_stays_heard(
    without_handlers: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    configure("WARNING")
    logging.config.dictConfig({"version": 1, "loggers": {"theirs": {}}})
    if without_handlers:
        logging.getLogger().handlers.clear()
    stay_heard()
    logger.info("not this")
    logger.warning("but this")

    assert [json.loads(line)["message"] for line in capsys.readouterr().err.splitlines()] == ["but this"]


def test_where_worker_py_has_set_up_other_loggers_the_client_of_kafka_stays_heard(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It was silent for the life of the process."""
    configure("INFO")
    client_logger.disabled = True  # as dictConfig() does it
    client_logger.warning("heard")

    assert [json.loads(line)["logger"] for line in capsys.readouterr().err.splitlines()] == ["consumer.kafka"]


def test_what_sets_up_other_loggers_in_a_call_of_process_does_not_silence_the_worker(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a library does when it is used first: no failure and no dead letter was told any more."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    configure("INFO")
    logging.config.dictConfig(
        {"version": 1, "handlers": {"all": {"class": "logging.StreamHandler"}}, "root": {"handlers": ["all"]}}
    )
    logger.warning("heard")

    assert capsys.readouterr().err == "heard\n"


def test_what_a_library_warns_of_is_a_line_as_all_others_are() -> None:
    """InsecureRequestWarning of each call stood as two lines of plain text between those of JSON."""
    logging.captureWarnings(False)
    configure("INFO", stream=(stream := io.StringIO()))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("Unverified HTTPS request", UserWarning, stacklevel=1)
    [line] = map(json.loads, stream.getvalue().splitlines())
    assert (line["level"], line["logger"]) == ("WARNING", "py.warnings")
    assert "UserWarning: Unverified HTTPS request" in line["message"]


def test_importing_it_sets_nothing_up() -> None:
    code = "import logging, utils.logger as l; print(logging.root.handlers, l.logger.handlers, l.logger.level)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[] [] 0"
