"""What `main.py trace` tells of a journey, and of what keeps it from looking."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest

import main
from config import Settings
from models import ListedRow, Row, engine, init_db, save
from tests.services.processes import free_port
from utils.commands.trace import all_traced, lines, subjects
from utils.fleet.journeys import Journey
from utils.fleet.looks import Subject
from utils.fleet.search import Wanted
from utils.joining.dead_letters import Contents
from utils.joining.journey import CommittedOffsets, Consumer, LetterAt, Sighting, Visit

SINCE = datetime(2026, 1, 31, 6, tzinfo=UTC)
AT = datetime(2026, 1, 31, 8, tzinfo=UTC).timestamp()


def seen(topic: str, offset: int, value: bytes = b'{"id":"1","secret":true}') -> Sighting:
    return Sighting(topic, 3, offset, AT, b"1", value, None)


def consumer(
    name: str, inputs: tuple[str, ...], output: str, *records: Sighting, result: Sighting | None = None
) -> Consumer:
    results = [result] if result else []
    return Consumer(name, inputs, (output,), 60.0, records, results, [], CommittedOffsets({}, {}, {}))


A, B, MID = seen("a", 5), seen("b", 7), seen("mid", 1)
JOIN = Visit(consumer("join", ("a", "b"), "mid", A, B, result=MID), "done", [(A, "done"), (B, "done")])
BILL = Visit(consumer("bill", ("c", "mid"), "out", MID), "waiting", [(MID, "unfinished")], ("c",), since=AT)
FOUND = Journey({"mid": [MID], "b": [B], "a": [A]}, [JOIN, BILL], ["c: forbidden"])


def told(journey: Journey, *, show: bool = False) -> list[str]:
    return list(lines("1", SINCE, {"h:1": journey}, ["row x is not looked at: why\nforged"], show=show))


def test_records_stand_before_the_consumers_that_read_them_and_what_was_not_seen_comes_last() -> None:
    assert told(FOUND) == [
        "1, in messages since 2026-01-31 06:00:00 UTC",
        "  a:3:5  2026-01-31 08:00:00",
        "  b:3:7  2026-01-31 08:00:00",
        "    join: done",
        "        a:3:5 done",
        "        b:3:7 done",
        "        result mid:3:1  2026-01-31 08:00:00",
        "  mid:3:1  2026-01-31 08:00:00",
        "    bill: waiting for a message in c, since 2026-01-31 08:00:00; given up after 2026-01-31 08:01:00,"
        " when all that could hold it has been read",
        "not seen:",
        "  row x is not looked at: why\\nforged",
        "  c: forbidden",
    ]


def test_what_is_in_messages_and_errors_is_told_only_where_it_may_be_seen() -> None:
    about = {"source": "a:3:5", "reason": "process_failed", "error.class": "KeyError", "error.message": "secret"}
    letter = LetterAt("dlq:0:1", Contents("1", "process_failed", (), about), done=True)
    failed = Visit(consumer("join", ("a",), "mid", A), "dead-lettered", [(A, "done")], letter=letter)
    journey = Journey({"a": [A]}, [failed])
    assert "secret" not in "\n".join(told(journey))
    assert "    join: dead-lettered, and replayed or discarded since" in told(journey)
    assert "        dead letter dlq:0:1: process_failed, KeyError" in told(journey)
    assert "\n".join(told(journey, show=True)).count("secret") == 2


@pytest.mark.parametrize("milliseconds", [1_700_000_000_000_000, 9_000_000_000_000_000, 2**63 - 1])
def test_a_time_beyond_all_calendars_keeps_nothing_else_from_being_told(milliseconds: int) -> None:
    """A producer that gives microseconds: `trace` of such an id was a traceback."""
    far = A._replace(time=milliseconds / 1000)
    late = replace(BILL, since=far.time)
    told_of_it = told(Journey({"a": [far], "mid": [MID]}, [late]))
    assert f"  a:3:5  {milliseconds / 1000:.0f} s after 1970" in told_of_it
    assert "  mid:3:1  2026-01-31 08:00:00" in told_of_it
    assert any("bill: waiting for a message in c, since" in line for line in told_of_it)


def test_an_id_that_is_nowhere_is_said_to_be_so() -> None:
    assert told(Journey())[1].startswith("  not found")


def test_where_no_cluster_answers_an_id_is_not_said_to_be_nowhere() -> None:
    away = Journey(not_seen=["cluster h:1, of shop: Kafka cannot be reached"], is_seen=False)
    assert told(away)[1:3] == ["  cannot tell: no cluster was looked at", "not seen:"]
    both = lines("1", SINCE, {"h:1": away, "h:2": Journey()}, [], show=False)
    assert [*both][1].startswith("  not found"), "what else was not seen stands below"


def test_a_row_that_is_no_good_is_a_line_and_the_others_are_looked_at() -> None:
    environment = Settings.read({"CONSUMER_NAME": "trace", "DATABASE_URL": "sqlite:///x"})
    rows = [
        ListedRow("bad", None, ("row bad: topics_input is empty",)),
        ListedRow("odd", Row.validated("odd", "a", "b", "h:1", '{"message_timeout": "x"}')),
        ListedRow("good", Row.validated("good", "a", "b", "h:1", '{"message_timeout": 7}')),
    ]
    some, problems = subjects(rows, environment)
    assert [(each.row.consumer_name, each.settings.message_timeout) for each in some] == [("good", 7)]
    assert problems[0] == "row bad is not looked at: topics_input is empty"
    assert problems[1].startswith("row odd is not looked at: metadatas.message_timeout")


def test_a_cluster_that_does_not_answer_is_a_line(
    capsys: pytest.CaptureFixture[str], tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("utils.commands.trace._REQUEST", 0.5)
    url = f"sqlite:///{tmp_path_factory.mktemp('rows')}/rows.db"
    database = engine(Settings.read({"CONSUMER_NAME": "x", "DATABASE_URL": url}).url(), create=True)
    init_db(database)
    save(database, Row.validated("shop", "a", "b", f"127.0.0.1:{free_port()}"))
    monkeypatch.setattr("os.environ", {"DATABASE_URL": url})
    assert main.main(["trace", "1", "--json"]) == 1
    out = json.loads(capsys.readouterr().out)
    [cluster] = out["clusters"]
    assert "of shop: Kafka cannot be reached" in cluster["not_seen"][0]
    assert "Connection refused" in cluster["not_seen"][0]
    assert main.main(["trace", "1"]) == 1
    assert "  cannot tell: no cluster was looked at\nnot seen:\n" in capsys.readouterr().out


def test_a_row_whose_login_is_refused_hides_nothing_of_the_others_at_its_brokers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def cluster_id(some: Sequence[Subject]) -> str | Journey:
        name = some[0].row.consumer_name
        return "id" if name == "good" else Journey(not_seen=[f"of {name}: Kafka refuses the login"], is_seen=False)

    found = Journey({"a": [seen("a", 5)]}, not_seen=["topic b: forbidden"], records=7)
    monkeypatch.setattr("utils.commands.trace._cluster_id", cluster_id)
    monkeypatch.setattr("utils.commands.trace.traced", lambda _wanted, _some: found)
    environment = Settings.read({"CONSUMER_NAME": "trace", "DATABASE_URL": "sqlite:///x"})
    logins = {name: f'{{"kafka": {{"sasl.username": "{name}"}}}}' for name in ("another", "good", "old")}
    rows = [ListedRow(name, Row.validated(name, "a", "b", "h:1", login)) for name, login in logins.items()]
    rows.append(ListedRow("away", Row.validated("away", "a", "b", "elsewhere:1")))
    some, problems = subjects(rows, environment)
    assert not problems
    refused = [f"of {name}: Kafka refuses the login" for name in ("another", "old", "away")]
    assert all_traced(Wanted("1", 0.0), some) == {
        "h:1": replace(found, not_seen=[*found.not_seen, *refused[:2]]),
        "elsewhere:1": Journey(not_seen=refused[2:], is_seen=False),
    }


def test_without_consumers_nothing_is_asked() -> None:
    assert all_traced(Wanted("1", 0.0), []) == {}
