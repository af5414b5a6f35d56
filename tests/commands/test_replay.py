"""Joining of dead letters, what a rehearsal tells, and how a run shows how far it is."""

import errno
import io
import sys
import threading
from collections import Counter
from dataclasses import MISSING, fields
from types import SimpleNamespace
from typing import Any, cast

import pytest
from confluent_kafka import TopicPartition

from tests.builders import group, partition_offsets
from tests.commands.test_letters import FakeRecord
from utils.commands.letters import Choice, ListedLetter
from utils.commands.replay import (
    IN_DOUBT,
    INCOMPLETE,
    LEFT_OUT,
    MAX_IN_FLIGHT,
    CannotReplay,
    Discarding,
    Joining,
    Replay,
    ReplayResult,
    letters_of,
    progress_bar,
    rehearse,
)
from utils.joining.aggregator import Group
from utils.joining.dead_letters import Contents, Part, write
from utils.joining.layout import Layout
from utils.joining.messages import Fragment, join
from utils.joining.offsets import PartitionOffsets, mark
from utils.joining.states import SENT
from utils.logger import _json
from utils.metrics import Counters
from utils.processing.outcome import Outcome, attempt
from utils.reading.batches import Record
from utils.sending.delivery import Backlog
from utils.sending.refusals import Refusals

LETTERS = partition_offsets(topic="orders-dlq")


def part(topic: str, id: str = "1", version: int = 0, offset: int = 5) -> Part:
    return Part(
        topic, 0, offset, b'{"id":"%s","content":{"%s":%d}}' % (id.encode(), topic.encode(), version), [("h", b"1")]
    )


def letter(*parts: Part, reason: str = "incomplete", id: str = "1", consumer: str = "orders") -> Contents:
    return Contents(id, reason, parts, {"reason": reason, "source": "", "consumer": consumer})


def joining(*topics: str) -> Joining:
    return Joining(topics or ("a", "b"))


def replay(**given: Any) -> Replay:
    """Without what a test ignores."""
    given = {"locate": None, "shutdown_timeout": 0.0, "intake": SimpleNamespace(owned=None), **given}
    needed = [each for each in fields(Replay) if each.init and each.default is each.default_factory is MISSING]
    ignored = {each.name: None for each in needed}
    return Replay(**{**ignored, "result": ReplayResult(), **given})


def test_a_whole_letter_is_a_group_at_once_and_stands_for_the_letter() -> None:
    group = joining().add(letter(part("b"), part("a")), LETTERS, 7)
    assert group
    assert join(group.fragments)["content"] == {"a": 0, "b": 0}
    assert {(each.offsets, each.offset) for each in group.fragments} == {(LETTERS, 7)}
    assert letters_of(group.fragments) == {(LETTERS.partition, 7)}
    assert group.fragments[0].headers == [("h", b"1")]


def test_a_part_that_is_wrong_further_inside_leaves_its_mate_to_the_corrected_one() -> None:
    """It was joined with it, and failed; the corrected one was alone, in each replay again."""
    meeting = joining()
    bad = Part("a", 0, 5, b'{"id":"1","content":{"price":1e999}}', [])
    with pytest.raises(CannotReplay, match="still no valid message: "):
        meeting.add(letter(bad, reason="invalid_message"), LETTERS, 1)
    assert meeting.add(letter(part("b")), LETTERS, 2) is None
    group = meeting.add(letter(part("a", offset=6)), LETTERS, 3)
    assert group
    assert letters_of(group.fragments) == {(LETTERS.partition, 2), (LETTERS.partition, 3)}


def test_late_mates_meet() -> None:
    meeting = joining("a", "b", "c")
    assert meeting.add(letter(part("a"), part("b")), LETTERS, 1) is None
    assert meeting.add(letter(part("c", "2"), id="2"), LETTERS, 2) is None
    assert meeting.waiting == 2
    group = meeting.add(letter(part("c")), LETTERS, 3)
    assert group
    assert sorted(each.offset for each in group.fragments) == [1, 1, 3]
    assert letters_of(group.fragments) == {(LETTERS.partition, 1), (LETTERS.partition, 3)}
    assert meeting.waiting == 1


def test_of_two_letters_of_a_topic_the_later_one_is_joined_and_the_earlier_one_is_finished() -> None:
    meeting, read = joining(), letters_read(3)
    meeting.add(letter(part("a", version=1, offset=5)), read, 0)
    meeting.add(letter(part("a", version=2, offset=6)), read, 1)
    group = meeting.add(letter(part("b")), read, 2)
    assert group
    assert join(group.fragments)["content"] == {"a": 2, "b": 0}
    assert sorted(each.offset for each in group.fragments) == [1, 2]
    assert (meeting.waiting, meeting.replaced, meeting.in_doubt) == (0, 1, 0)
    assert unfinished(read) == [1, 2]


def letters_read(number: int) -> PartitionOffsets:
    offsets = partition_offsets(topic="orders-dlq")
    for offset in range(number):
        offsets.read(offset)
    return offsets


def unfinished(offsets: PartitionOffsets) -> list[int]:
    return [offset for offset in range(offsets.position) if not offsets.is_finished(offset)]


VERSIONS = [  # i0, i1, j0, j1, each given up before the next came; and i0 given up, (i1, j1) failed, j0 given up
    [
        letter(part(topic, version=version, offset=version))
        for topic, version in (("a", 0), ("a", 1), ("b", 0), ("b", 1))
    ],
    [
        letter(part("a", offset=0)),
        letter(part("a", version=1, offset=1), part("b", version=1, offset=0), reason="process_failed"),
        letter(part("b", version=2, offset=1)),
    ],
]


@pytest.mark.parametrize(("letters", "results"), [(VERSIONS[0], [{"a": 1, "b": 0}]), (VERSIONS[1], [{"a": 1, "b": 1}])])
def test_replays_one_after_the_other_join_nothing_that_a_later_letter_has_superseded(
    letters: list[Contents], results: list[object]
) -> None:
    read, made = letters_read(len(letters)), []
    for _ in range(3):
        meeting = joining()
        for offset in unfinished(read):
            if group := meeting.add(letters[offset], read, offset):
                made.append(join(group.fragments)["content"])
                for each in group.fragments:
                    read.finish(each.offset)
    assert made == results
    assert len(unfinished(read)) == 1, "the part that came last waits for another one"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (part("a", offset=7), part("a", offset=6)),  # the older one was tried for long, or its topic was made again
        (part("a", offset=6), Part("a", 1, 7, part("a").value)),  # of another partition
    ],
)
def test_of_which_it_is_not_certain_that_it_is_the_older_one_stays(before: Part, after: Part) -> None:
    meeting, read = joining(), letters_read(2)
    meeting.add(letter(before), read, 0)
    assert meeting.add(letter(after, part("b")), read, 1)
    assert (meeting.waiting, meeting.replaced, meeting.in_doubt) == (0, 0, 1)
    assert unfinished(read) == [0, 1]


def test_a_letter_that_is_replaced_by_one_that_came_to_another_partition_stays() -> None:
    meeting, read, other = joining(), letters_read(1), partition_offsets(topic="orders-dlq", partition=1)
    meeting.add(letter(part("a")), read, 0)
    assert meeting.add(letter(part("a", offset=6), part("b")), other, 3)
    assert unfinished(read) == [0]
    assert meeting.in_doubt == 1


def test_a_letter_of_which_one_message_is_of_use_yet_is_not_finished() -> None:
    meeting, read = joining("a", "b", "c"), letters_read(3)
    meeting.add(letter(part("a"), part("b")), read, 0)
    meeting.add(letter(part("a", version=1)), read, 1)
    assert (meeting.replaced, unfinished(read)) == (0, [0, 1, 2])
    group = meeting.add(letter(part("c")), read, 2)
    assert group
    assert letters_of(group.fragments) == {(0, 0), (0, 1), (0, 2)}


def test_a_message_that_was_invalid_and_is_valid_now_is_joined_by_its_id() -> None:
    meeting = joining()
    meeting.add(letter(part("a", "7"), reason="invalid_message", id="some key"), LETTERS, 1)
    assert meeting.add(letter(part("b", "7"), id="7"), LETTERS, 2)


@pytest.mark.parametrize(
    ("contents", "why"),
    [
        (letter(), "too large"),
        (letter(part("gone")), "gone is no input topic any more"),
        (letter(Part("a", 0, 1, b"no json")), "still no valid message"),
        (letter(Part("a", 0, 1, None)), "still no valid message"),
        (letter(part("a", "1"), part("b", "2")), "different ids"),
    ],
)
def test_what_makes_no_message_says_why(contents: Contents, why: str) -> None:
    meeting = joining()
    with pytest.raises(CannotReplay, match=why):
        meeting.add(contents, LETTERS, 1)
    assert meeting.waiting == 0


def test_a_rehearsal_counts_what_would_be_replayed_and_what_would_stay() -> None:
    whole, half, bad = letter(part("a"), part("b")), letter(part("a", "2"), id="2"), letter()
    other = letter(part("a", "3"), part("b", "3"), reason="process_failed", id="3")
    others = letter(part("a", "4"), part("b", "4"), id="4", consumer="paid")
    standing = [(others, False), (whole, False), (whole, True), (half, False), (bad, False), (other, False)]
    found = [ListedLetter(each, TopicPartition("dlq", 0, offset), done) for offset, (each, done) in enumerate(standing)]
    result = ReplayResult()
    rehearse(found, Choice("orders", reason="incomplete"), joining(), result)
    assert result.done == 1
    assert result.stay == {"its messages were too large for it": 1, INCOMPLETE: 1}
    assert next(iter(result.lines("would be replayed"))) == "       1  would be replayed"


def test_a_letter_whose_message_a_later_one_holds_is_told_as_one_that_is_left_out() -> None:
    whole = letter(part("a", "2"), part("b", "2"), part("c", "2"), id="2")
    letters = [
        letter(part("a"), part("b")),
        letter(part("a")),
        letter(part("b")),
        letter(part("a", "2"), id="2"),
        whole,
    ]
    found = [ListedLetter(each, TopicPartition("dlq", 0, offset), False) for offset, each in enumerate(letters)]
    result = ReplayResult()
    rehearse(found, Choice("orders"), joining("a", "b", "c"), result)
    assert (result.done, result.stay) == (1, {INCOMPLETE: 2})
    assert [*result.lines("would be replayed")] == [
        "       1  would be replayed",
        "       2  left out, now and from now on: a later one holds the message of its topic",
        "       2  stay: still incomplete",
    ], "the first one, and that before the whole one"
    older = letter(part("a", offset=4), part("b"), part("c"))
    found = [ListedLetter(each, TopicPartition("dlq", 0, at), False) for at, each in enumerate([letters[1], older])]
    rehearse(found, Choice("orders"), joining("a", "b", "c"), result := ReplayResult())
    assert (result.replaced, result.stay) == (0, {IN_DOUBT: 1})


def test_after_a_failure_of_kafka_no_letter_counts_twice() -> None:
    run = replay(
        delivery=SimpleNamespace(send=lambda _outcomes: None),
        refusals=Refusals(),
        largest=1_000,
        use=joining(),
        consumer=SimpleNamespace(offsets_for_times=lambda asked, timeout: asked),
    )
    fragments = [Fragment(0, partition_offsets(topic="dlq"), offset, b"{}") for offset in (0, 63, 64)]
    once, again = [
        [Outcome(Group(str(each.offset), (each,)), [], error) for each, error in zip(fragments, errors, strict=True)]
        for errors in ((None, ValueError(), None), (None, ValueError(), ValueError()))
    ]
    for outcomes in (once, again):
        run.assigned([])
        run.deliver(outcomes)
    assert (run.result.done, run.result.stay) == (1, {"failed again: ValueError": 2})


def test_a_run_whose_partitions_were_taken_is_not_done_before_it_knows_which_it_has_now() -> None:
    """It ended as if all were done, where a second run began or Kafka was away."""
    end = SimpleNamespace(offsets_for_times=lambda asked, timeout: [TopicPartition("dlq", 0, 100) for _ in asked])
    executor = SimpleNamespace(in_flight=0)
    offsets = PartitionOffsets("dlq", 0, Layout(""), 0)
    owned = SimpleNamespace(partitions={("dlq", 0): offsets})
    intake, delivery = SimpleNamespace(owned=owned), SimpleNamespace(pending=0)
    run = replay(use=joining(), consumer=end, executor=executor, intake=intake, delivery=delivery)
    run.commits.has_news = False
    run.assigned([offsets])
    assert not run._is_done()
    run.forget()
    owned.partitions = {}
    assert not run._is_done()
    end.offsets_for_times = lambda asked, timeout: []
    run.assigned([])
    assert run._is_done(), "another run has them all"


def test_what_is_discarded_is_done_with_at_once_also_where_it_makes_no_message() -> None:
    offsets, result = partition_offsets(topic="dlq"), ReplayResult()
    use = Discarding(result)
    run = replay(choice=Choice("orders", reason="invalid_message"), use=use, result=result)
    for offset, reason in enumerate(("invalid_message", "process_failed", "invalid_message")):
        written = write(group("1"), reason, consumer="orders", time="2026")
        offsets.read(offset)
        record = FakeRecord(("dlq", 0), offset, cast(Any, written))
        assert run._take(cast(Record, record), record.headers(), offsets) is None
    assert (offsets.lowest_unfinished(), offsets.unfinished()) == (1, 1), "what was not chosen stays"
    assert run.commits.has_news, "else the end of the run would commit nothing"
    assert list(result.lines("discarded")) == ["       2  discarded"]


def test_a_rehearsal_of_discarding_counts_what_would_be_discarded() -> None:
    standing = [(letter(), False), (letter(part("a")), True), (letter(part("a")), False)]
    found = [ListedLetter(each, TopicPartition("dlq", 0, offset), done) for offset, (each, done) in enumerate(standing)]
    result = ReplayResult()
    rehearse(found, Choice("orders"), Discarding(result), result)
    assert list(result.lines("would be discarded")) == ["       2  would be discarded"]


def test_a_dead_letter_of_another_consumer_is_none_of_this_group() -> None:
    offsets = partition_offsets(topic="dlq")
    run = replay(choice=Choice("orders"), use=joining("a"))
    taken = []
    for offset, consumer in enumerate(("paid", "orders", "paid")):
        written = write(group(consumer), "process_failed", consumer=consumer, time="2026")
        offsets.read(offset)
        record = FakeRecord(("dlq", 0), offset, cast(Any, written))
        taken.append(run._take(cast(Record, record), record.headers(), offsets))
    assert [each.id if each else None for each in taken] == [None, "orders", None]
    assert (offsets.lowest_unfinished(), offsets.unfinished()) == (1, 1), "only ours takes room in the map"


def test_what_fails_again_stays_and_is_told_without_what_the_error_says(caplog: pytest.LogCaptureFixture) -> None:
    def process(message: Any, _name: str) -> None:
        raise ValueError(f"cannot take {message}")

    run = replay()
    failed: Outcome = attempt(process, group("4711"), "orders")
    assert not run._may_leave(failed)
    assert (run.result.stay, run.result.failed) == ({"failed again: ValueError": 1}, 1)
    [record] = caplog.records
    line = _json("orders").format(record)
    assert "ValueError at test_replay.py:" in line
    assert "cannot take {'id" not in line


def test_what_is_safe_makes_room_while_a_commit_is_unanswered() -> None:
    offsets = partition_offsets(topic="orders-dlq")
    offsets.read(0)
    delivery = Unanswered()
    intake = SimpleNamespace(owned=SimpleNamespace(partitions={("orders-dlq", 0): offsets}))
    busy = SimpleNamespace(in_flight=MAX_IN_FLIGHT)
    run = replay(delivery=delivery, intake=intake, counters=Counters(), executor=busy, room=1)
    run.commits._unanswered = True
    mark([Fragment(0, offsets, 0, b"{}")], SENT)
    run.commits.turn(run._is_full)
    assert (delivery.pending, offsets.unfinished()) == (0, 0)
    assert run.commits._unanswered, "and it is still waited for"
    assert run.commits.has_news, "and the next one carries what was finished meanwhile"


@pytest.mark.parametrize("are_left_out", [True, False])
def test_a_run_that_could_not_read_some_partitions_says_so_and_is_no_success(are_left_out: bool) -> None:
    """It said nothing of what lies in them, and ended with 0."""
    intake = SimpleNamespace(
        owned=SimpleNamespace(partitions={}),
        siblings=SimpleNamespace(some_are_left_out=are_left_out),
        rebalanced=lambda owned, left_out=(): None,
    )
    consumer = SimpleNamespace(
        subscribe=lambda topics, **callbacks: None, offsets_for_times=lambda asked, timeout: [], close=lambda: None
    )
    delivery, executor = SimpleNamespace(pending=0, drop=lambda: None), SimpleNamespace(in_flight=0, drop=lambda: None)
    run = replay(
        use=joining(),
        consumer=consumer,
        intake=intake,
        delivery=delivery,
        executor=executor,
        stopping=threading.Event(),
    )
    run.commits.has_news = False
    run.assigned([])
    run.run()
    assert run.result.error == (LEFT_OUT if are_left_out else "")


def test_large_messages_leave_no_room_for_more() -> None:
    """Only their number counted: 1,800 of 300 kB took 589 MB."""
    executor = SimpleNamespace(in_flight=0, submit=lambda groups: None, drop=lambda: None)
    delivery = SimpleNamespace(pending=0, backlog=Backlog(), send=lambda outcomes: None)
    run = replay(executor=executor, delivery=delivery, room=1_000, refusals=Refusals(), largest=1_000, use=joining())
    run._bytes_in_flight = 1_500
    assert run._load() == 1.5
    fragment = Fragment(0, partition_offsets(topic="dlq"), 0, b"{}")
    run.deliver([Outcome(Group("1", (fragment,), 900), [])])
    assert run._load() == 0.6
    delivery.backlog = Backlog(1, 2_000)
    assert run._load() == 2.6
    run.forget()
    assert run._bytes_in_flight == 0


class Unanswered:
    """A Delivery: one group was sent and is safe, and a commit is on its way."""

    pending, backlog = 1, Backlog()

    def committed(self) -> None: ...

    def settle(self) -> bool:
        self.pending = 0
        return True


# ---------------------------------------------------------------- the bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_one_line_tells_how_far_it_is_over_and_over(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    result = ReplayResult()
    with progress_bar(width=10) as show:
        show(0, 8, result)
        result.note([(0, 0), (0, 1), (0, 2)], done=True)
        result.stay = Counter({INCOMPLETE: 1, "too large": 1})
        show(5, 8, result)
        show(8, 8, result)
    assert stream.getvalue().split("\r") == [
        "",
        "[..........] 0/8  done 0, stay 0 ",
        "[######....] 5/8  done 3, stay 2 ",
        "[##########] 8/8  done 3, stay 2 \n",
    ]


@pytest.mark.parametrize(("read", "of"), [(0, 0), (12, 8)])
def test_the_bar_is_full_where_there_is_nothing_to_read_or_more_has_come_meanwhile(
    monkeypatch: pytest.MonkeyPatch, read: int, of: int
) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    with progress_bar(width=4) as show:
        show(read, of, ReplayResult())
    assert stream.getvalue() == f"\r[####] {read}/{of}  done 0, stay 0 \n"


def test_the_line_of_the_bar_is_ended_also_by_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    with pytest.raises(KeyboardInterrupt), progress_bar():
        raise KeyboardInterrupt
    assert stream.getvalue() == "\n"


class Gone(Terminal):
    """A terminal whose other end is closed: a session that has broken."""

    tried = 0

    def write(self, _text: str) -> int:
        self.tried += 1
        raise OSError(errno.EIO, "Input/output error")


def test_a_terminal_that_goes_away_is_no_failure_of_the_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was, and what had been sent since the last commit was sent a second time."""
    stream = Gone()
    monkeypatch.setattr(sys, "stderr", stream)
    with progress_bar() as show:
        show(1, 2, ReplayResult())
        show(2, 2, ReplayResult())
    assert stream.tried == 1


def test_where_there_is_no_terminal_nothing_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with progress_bar() as show:
        show(1, 2, ReplayResult())
    assert stream.getvalue() == ""
