"""What the demo shows of a result and of a line of the worker's log."""

import json
import logging
import os
import re
import sys
from typing import Any

import pytest

from examples.demo_feed import ORDERS, PAYMENTS, Sample
from examples.demo_view import View
from tests.program import ROOT
from utils.metrics import Counters

VIEW = View(colours=False, message_timeout=3, file="worker.py")


def sample(at: float, topic: str, **content: object) -> Sample:
    return Sample(at, topic, 7, json.dumps({"id": 7, "content": content}).encode())


def words(result: dict[str, Any], *sent: Sample) -> list[str]:
    """The lines of a result with single spaces."""
    return [" ".join(line.split()) for line in VIEW.result(result, sent)]


def logged(message: str, level: int = logging.ERROR, failure: Exception | None = None, **extra: object) -> list[str]:
    levelname = logging.getLevelName(level)
    told = {"msg": message, "levelno": level, "levelname": levelname, "pathname": str(ROOT / "framework.py")}
    record = logging.makeLogRecord({**told, **extra})
    record.exc_info = (type(failure), failure, failure.__traceback__) if failure else None
    return list(VIEW.log_line(record))


def test_a_result_shows_what_each_topic_brought_and_which_was_waited_for() -> None:
    sent = sample(1.0, PAYMENTS, paid=9.8), sample(1.7, ORDERS, item="tea", total=9.8)
    result = {"id": 7, "content": {"item": "tea", "total": 9.8, "paid": 9.8}}
    assert words(result, *sent) == ["7 item=tea total=9.8 paid=9.8 orders 0.7 s"]


def test_its_columns_stand_below_their_titles() -> None:
    *_, titles = VIEW.heading("http://127.0.0.1:1/")
    sent = sample(0, ORDERS, item="tea"), sample(1, PAYMENTS, paid=9.8)
    [line] = VIEW.result({"id": 7, "content": {"item": "tea", "paid": 9.8}}, sent)
    assert titles.index("from orders") == line.index("item=tea")
    assert titles.index("from payments") == line.index("paid=9.8")
    assert titles.index("waited for") == line.index("payments 1.0 s")


def test_what_process_added_or_changed_stands_apart() -> None:
    sent = sample(0, ORDERS, item="tea", total=9.8), sample(1, PAYMENTS, paid=9.8)
    result = {"id": 7, "seen": True, "content": {"item": "TEA", "paid": 9.8, "vat": 0.69}}
    assert words(result, *sent) == ["7 paid=9.8 payments 1.0 s", "from process(): seen=True item=TEA vat=0.69"]


def test_a_superseded_message_is_told_with_the_result_of_the_later_one() -> None:
    sent = sample(0, ORDERS, total=0.0), sample(0.1, ORDERS, total=9.8), sample(1, PAYMENTS, paid=9.8)
    result = {"id": 7, "content": {"total": 9.8, "paid": 9.8}}
    assert words(result, *sent)[1:] == ["superseded: total=0.0 on orders, by the later one"]


def test_a_second_message_that_came_after_the_result_superseded_nothing() -> None:
    sent = sample(0, ORDERS, total=0.0), sample(0.1, PAYMENTS, paid=9.8), sample(0.2, ORDERS, total=9.8)
    assert words({"id": 7, "content": {"total": 0.0, "paid": 9.8}}, *sent) == ["7 total=0.0 paid=9.8 payments 0.1 s"]


def test_a_result_of_an_unknown_id_without_content_is_shown_too() -> None:
    assert words({"id": "x", "content": [1], "sum": 3}) == ["x", "from process(): sum=3"]


def test_what_was_not_joined_is_told_with_its_reason() -> None:
    [line] = logged("invalid message", source="orders:2:17", error="no JSON")
    assert line.split() == ["invalid:", "orders:2:17,", "no", "JSON"]
    [line] = logged("incomplete messages given up", missing_topics_by_id={"7": ["payments"]})
    assert line == "7     given up: nothing came on payments within 3 s"


def test_a_failure_of_process_names_the_error_and_its_place() -> None:
    try:
        raise KeyError("price")
    except KeyError as error:
        [line] = logged("process() failed", failure=error, id="7")
    place = f"test_demo_view.py:{sys._getframe().f_lineno - 3}"
    assert line == f"7     process() failed: KeyError: 'price' ({place})"


def test_what_a_library_raises_is_told_with_the_line_that_called_it() -> None:
    """It was the place in Python's own os alone, also where setup() wants a variable that is not set."""
    try:
        os.environ["NO_SUCH_KEY"]
    except KeyError as error:
        [line] = logged("setup() failed", failure=error)
    called = f"called at test_demo_view.py:{sys._getframe().f_lineno - 3}"
    assert re.fullmatch(rf" +error: setup\(\) failed: KeyError: 'NO_SUCH_KEY' \(.*os.*:\d+, {called}\)", line)


def test_also_one_that_is_tried_again_names_them_and_so_does_an_outage() -> None:
    """A slip that fails for every message is never told otherwise: no attempt counts while all fail."""
    again = "process() failed and is tried again"
    [line] = logged(again, logging.WARNING, id="7", attempt=1, error="NameError at worker.py:2")
    assert line == "7     warning: process() failed and is tried again: NameError at worker.py:2"
    [line] = logged("process() fails for one id after the other", held=3, error="NameError at worker.py:2")
    assert line.strip() == "error: process() fails for one id after the other: NameError at worker.py:2"


def test_the_address_of_the_status_page_comes_before_the_columns() -> None:
    address, _, columns = logged("status page", logging.INFO, url="http://127.0.0.1:1/")
    assert address.endswith("http://127.0.0.1:1/")
    assert columns.split()[:3] == ["id", "from", "orders"]


def test_of_the_rest_of_the_log_only_trouble_is_shown() -> None:
    assert logged("partitions assigned", logging.INFO) == []
    assert [line.strip() for line in logged("Kafka is gone", logging.WARNING)] == ["warning: Kafka is gone"]


@pytest.mark.parametrize("file", ["worker.py", "taxes/rates.py", "examples/http_session.py"])
def test_what_worker_py_logs_is_shown(file: str) -> None:
    """Nothing was: it looked as if process() were not called."""
    assert logged("got 1001", logging.INFO, pathname=str(ROOT / file)) == ["      info: got 1001"]
    assert logged("row loaded", logging.INFO, pathname=str(ROOT / "utils/running/steps.py")) == []


@pytest.mark.parametrize("message", ["status page", "invalid message", "incomplete messages given up"])
def test_what_worker_py_logs_in_the_words_of_the_frame_is_a_line_as_any_other(message: str) -> None:
    """What the frame adds to such a line was looked for, and that it was not there was raised in process()."""
    [line] = logged(message, logging.INFO, pathname=str(ROOT / "worker.py"))
    assert line.strip() == f"info: {message}"


def test_the_summary_accounts_for_every_message_read() -> None:
    counters = Counters(read=20, completed=6, evicted=2, superseded=1, invalid=3, failed=1)
    _, counts, advice = VIEW.summary(counters.as_dict(), shown=5)
    parts = "6 pairs joined, 2 given up, 1 superseded, 3 invalid, 2 still waiting; 1 pairs failed in process()"
    assert counts == f"5 results shown. 20 messages read: {parts}."
    assert "worker.py" in advice
    example = View(colours=False, message_timeout=3, file="examples/http_session.py")
    assert all(
        "in examples/http_session.py" in line
        for line in (next(example.introduction()), [*example.summary(counters.as_dict(), 5)][-1])
    )


def test_there_are_colours_only_where_they_are_wanted() -> None:
    result = {"id": 7, "content": {}}
    assert "\x1b" not in "".join(VIEW.result(result, ()))
    assert "\x1b[32m" in "".join(View(colours=True, message_timeout=3, file="worker.py").result(result, ()))
