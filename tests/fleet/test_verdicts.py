"""What is said of a consumer, by its row and two looks."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from confluent_kafka import KafkaError

from config import Settings, Trouble
from models import ListedRow, Row
from utils.fleet.letters import Letters
from utils.fleet.looks import Look, Pair, Subject
from utils.fleet.verdicts import ConsumerSeen, judged, numbers, worst_first
from utils.joining.progress import Progress
from utils.kafka.groups import ConsumerGroup, Member
from utils.kafka.lookups import Topic

ROW = Row("orders", ("a", "b"), ("out",), "h:9092")
NOW = 1_700_000_000.0
APART = 2.0
TOPICS = {"a": Topic("1", 2), "b": Topic("2", 2), "out": Topic("3", 1)}
ALL = (("a", 0), ("a", 1), ("b", 0), ("b", 1))
ALONE = ConsumerGroup("STABLE", (Member("10.0.0.5", "orders", "", ALL),))
TWO = ConsumerGroup(
    "STABLE",
    (Member("10.0.0.5", "orders", "", (("a", 0), ("b", 0))), Member("10.0.0.6", "orders", "", (("a", 1), ("b", 1)))),
)
NOBODY = ConsumerGroup("EMPTY", ())


def part(topic: str, number: int, read: int, end: int, **more: object) -> Progress:
    known = {"unfinished": 0, "since": None, "waits": False, "committed": read, "committed_at": NOW - 60, **more}
    return Progress(topic, number, end, read, **known)  # type: ignore[arg-type]


def look(*parts: Progress, at: float = NOW, group: ConsumerGroup | KafkaError = ALONE, **more: object) -> Look:
    """Of all partitions; those that are not given have been read to their end."""
    known = {at: part(*at, 10, 10) for at in ALL} | {(each.topic, each.partition): each for each in parts}
    return Look(at, None, TOPICS, {("out", 0): 5}, group, known, **more)  # type: ignore[arg-type]


def seen(
    *parts: Progress,
    before: Sequence[Progress] = (),
    group: ConsumerGroup | KafkaError = ALONE,
    metadatas: str | None = None,
    seconds: float = APART,
    **more: Any,
) -> ConsumerSeen:
    row = replace(ROW, metadatas=metadatas)
    subject = Subject(row, Settings(consumer_name="orders").overlaid(metadatas))
    looks = Pair(look(*before, at=NOW - seconds, group=group), look(*parts, group=group, **more))
    return judged(ListedRow("orders", row), subject, looks)


def state(of: ConsumerSeen) -> tuple[str, str]:
    return of.level, of.state


# ---------------------------------------------------------------- states


def test_all_is_read_and_somebody_is_there() -> None:
    found = seen()
    assert state(found) == ("ok", "idle")
    assert (found.unread, found.unfinished, found.age) == (0, 0, None)


def test_what_waits_for_its_mates_is_told_with_its_topic_and_age() -> None:
    found = seen(part("a", 1, 10, 10, unfinished=3, since=NOW - 90, waits=True))
    assert state(found) == ("ok", "idle")
    assert (found.unfinished, found.age) == (3, 90.0)
    assert "3 wait, most of them of a, the oldest for 1 min 30 s" in found.sentence


def test_one_that_reads_is_at_work() -> None:
    found = seen(part("a", 0, 410, 420), before=[part("a", 0, 10, 400)])
    assert state(found) == ("ok", "working")
    assert found.rates.read == found.rates.done == 200.0
    assert found.topic_rates == {"a": 200.0, "b": 0.0, "out": 0.0}


def test_more_unread_than_ten_seconds_of_reading_is_behind() -> None:
    found = seen(part("a", 0, 110, 5000), before=[part("a", 0, 10, 4990)])
    assert state(found) == ("warning", "behind")
    assert "50 a second read, 5.0 a second come: about 1 min 49 s behind" in found.sentence
    losing = seen(part("a", 0, 110, 5000), before=[part("a", 0, 10, 4000)])
    assert "more all the time" in losing.sentence


def test_one_whose_hands_are_full_takes_in_what_it_gets_done() -> None:
    full = part("a", 0, 10_000, 50_000, unfinished=8_000)
    found = seen(full, before=[replace(full, unfinished=8_100)])
    assert state(found) == ("warning", "behind")
    assert "40,000 unread, 50 a second done: about 16 min behind" in found.sentence


def test_one_that_read_nothing_between_the_looks_is_only_slow_if_it_has_just_committed() -> None:
    slow = part("a", 0, 10, 5000, committed_at=NOW - 5)
    found = seen(slow, before=[slow])
    assert state(found) == ("warning", "behind")
    assert "none read in 2.0 s; the last commit was 5.0 s ago" in found.sentence


def test_one_that_has_not_committed_for_long_although_there_was_something_to_read_stands_still() -> None:
    still = part("a", 0, 10, 5000)
    found = seen(still, before=[still])
    assert state(found) == ("bad", "standing still")
    assert "1 worker (10.0.0.5), with 4,990 unread; the last commit was 1 min ago" in found.sentence
    assert found.members[0].still_for == 60.0


def test_what_came_between_the_looks_proves_nothing() -> None:
    assert state(seen(part("a", 0, 10, 50), before=[part("a", 0, 10, 10)])) == ("ok", "working")


def test_looks_closer_than_two_commits_prove_nothing() -> None:
    still = part("a", 0, 10, 5000)
    assert state(seen(still, before=[still], metadatas='{"commit_interval": 5}')) == ("warning", "behind")


def test_a_commit_of_another_partition_of_the_same_worker_shows_that_it_lives() -> None:
    still, other = part("a", 0, 10, 5000), part("b", 0, 10, 10)
    found = seen(still, replace(other, committed_at=NOW), before=[still, other])
    assert state(found) == ("warning", "behind")


def test_of_two_workers_the_one_that_stands_still_is_named() -> None:
    still, moving = part("a", 0, 10, 5000), part("a", 1, 10, 5000)
    found = seen(still, replace(moving, read=2000, committed_at=NOW), before=[still, moving], group=TWO)
    assert state(found) == ("bad", "standing still")
    assert "on 1 of 2 workers (10.0.0.5), with 4,990 unread" in found.sentence
    assert [each.still_for for each in found.members] == [60.0, None]


def test_a_partition_that_has_just_come_to_a_worker_is_given_time() -> None:
    still = part("a", 0, 10, 5000)
    subject = Subject(ROW, Settings(consumer_name="orders"))
    looks = Pair(look(still, at=NOW - APART, group=NOBODY), look(still))
    assert judged(ListedRow("orders", ROW), subject, looks).state == "behind"


def test_a_worker_with_a_full_hand_reads_no_more_and_is_slow_as_long_as_a_call_may_last() -> None:
    full = part("a", 0, 10, 50_000, unfinished=8_000)
    assert state(seen(full, before=[full])) == ("warning", "behind")
    short = seen(full, before=[full], metadatas='{"process_timeout": 30}')
    assert state(short) == ("bad", "standing still")


def test_one_that_was_assigned_and_has_never_committed_stands_still() -> None:
    never = [part(*at, 0, 10, committed=None, committed_at=None) for at in ALL]
    assert state(seen(*never, before=never)) == ("bad", "standing still")


def test_a_clock_that_is_ahead_hides_nobody_who_stands_still() -> None:
    still = part("a", 0, 10, 5000, committed_at=NOW + 3600)
    assert state(seen(still, before=[still], seconds=12)) == ("bad", "standing still")


def test_a_clock_that_is_some_seconds_ahead_makes_nobody_stand_still_who_is_slow() -> None:
    """It may commit every five seconds: most looks that are two apart have none between them."""
    slow = part("a", 0, 10, 5000, unfinished=8_000, committed_at=NOW + 4)
    assert state(seen(slow, before=[slow])) == ("warning", "behind")


def test_what_has_been_in_process_for_longer_than_a_call_may_last_is_told() -> None:
    hangs = part("a", 0, 10, 10, unfinished=4, since=NOW - 400)
    found = seen(hangs, before=[hangs])
    assert state(found) == ("warning", "working")
    assert (
        "4 in process(), the oldest for 6 min 40 s, none done in 2.0 s: it hangs, fails again and again"
        in found.sentence
    )


def test_what_may_be_done_and_is_not_yet_committed_does_not_hang() -> None:
    """Where commits are further apart than the looks, a slow worker was said to hang at most of them."""
    slow = part("a", 0, 10, 10, unfinished=4, since=NOW - 400)
    rare = '{"commit_interval": 5}'
    assert state(seen(slow, before=[slow], metadatas=rare)) == ("ok", "idle")
    assert state(seen(slow, before=[slow], metadatas=rare, seconds=5.0)) == ("warning", "working")


def test_what_waits_its_turn_behind_slow_calls_does_not_hang() -> None:
    """It was said to hang, or to fail again and again, whatever got done between the looks."""
    burst = part("a", 0, 700, 700, unfinished=392, since=NOW - 310)
    found = seen(replace(burst, unfinished=390), before=[burst])
    assert state(found) == ("warning", "behind")
    assert found.sentence == "390 in process(), 1.0 a second done: about 6 min 30 s behind."
    last = replace(burst, unfinished=7, since=NOW - 695)
    assert state(seen(replace(last, unfinished=5), before=[last])) == ("ok", "working")


def test_more_in_process_than_it_gets_done_within_a_call_is_behind_although_all_is_read() -> None:
    """It was "working", with four hours of calls before the last message that came."""
    slow = part("a", 0, 10_000, 10_000, unfinished=7_999, since=NOW - 200)
    found = seen(replace(slow, read=10_002, end=10_002, unfinished=8_000), before=[slow])
    assert state(found) == ("warning", "behind")
    assert "8,000 in process(), 0.5 a second done: about 4 h 26 min behind" in found.sentence
    many_at_once = part("a", 0, 1_000, 1_000, unfinished=200, since=NOW - 30)
    found = seen(replace(many_at_once, read=1_014, end=1_014), before=[many_at_once])
    assert state(found) == ("ok", "working")


def test_what_is_overtaken_by_all_others_hangs() -> None:
    hangs = part("a", 0, 1_000, 1_000, unfinished=4, since=NOW - 400)
    found = seen(replace(hangs, read=1_200, end=1_200), before=[hangs])
    assert state(found) == ("warning", "working")
    assert "4 in process(), the oldest for 6 min 40 s, while others are done: it hangs" in found.sentence


def test_one_worker_that_hangs_is_told_beside_another_that_works() -> None:
    hangs, works = part("a", 0, 10, 10, unfinished=4, since=NOW - 400), part("a", 1, 10, 10)
    found = seen(hangs, replace(works, read=210, end=210), before=[hangs, works], group=TWO)
    assert state(found) == ("warning", "working")
    assert "4 in process(), the oldest for 6 min 40 s, none done in 2.0 s" in found.sentence


def test_a_worker_that_has_just_left_may_be_starting_again() -> None:
    """A changed row does that to each: who looked within half a second of it was told that nobody is there."""
    looks = Pair(look(at=NOW - APART), look(group=NOBODY))
    found = judged(ListedRow("orders", ROW), Subject(ROW, Settings(consumer_name="orders")), looks)
    assert state(found) == ("warning", "rebalancing")
    assert "No worker is in the consumer group, and a moment ago one was: it starts again" in found.sentence


def test_nobody_there_is_bad_with_all_that_is_left_behind() -> None:
    found = seen(part("a", 0, 10, 30, unfinished=2, since=NOW - 60, waits=True), group=NOBODY)
    assert state(found) == ("bad", "nobody there")
    assert "20 unread, 2 not done, the oldest for 1 min; the last commit was 1 min ago" in found.sentence


@pytest.mark.parametrize(("end", "level"), [(10, "bad"), (0, "warning")])
def test_where_no_commit_is_it_may_also_be_that_kafka_has_deleted_them(end: int, level: str) -> None:
    """It does so once a consumer group has been empty for a week: that it was never started is not known."""
    never = [part(*at, 0, end, committed=None, committed_at=None) for at in ALL]
    found = seen(*never, group=ConsumerGroup("DEAD", ()))
    assert state(found) == (level, "no commit")
    assert "No worker has run yet, or all were away for so long that Kafka has deleted their commits" in found.sentence
    assert "offsets.retention.minutes" in found.sentence


def test_a_paused_one_is_paused_and_does_not_stand_still() -> None:
    still = part("a", 0, 10, 5000)
    found = seen(still, before=[still], metadatas='{"paused": true}')
    assert state(found) == ("warning", "paused")
    assert found.paused
    assert "4,990 unread" in found.sentence
    assert "nobody is there" in seen(still, group=NOBODY, metadatas='{"paused": true}').sentence
    reading = seen(part("a", 0, 110, 5000), before=[still], metadatas='{"paused": true}')
    assert "About to pause" in reading.sentence


def test_workers_that_share_out_the_partitions_are_told_so() -> None:
    joining = ConsumerGroup("PREPARING_REBALANCING", (Member("10.0.0.5", "orders", "", ()),))
    assert state(seen(group=joining)) == ("warning", "rebalancing")


def test_a_row_that_is_no_good_says_why() -> None:
    found = judged(ListedRow("orders", None, ("topics_input is empty",)), None, None)
    assert (found.level, found.state, found.sentence) == ("bad", "row no good", "Topics_input is empty.")
    assert found.unread is None


def test_names_that_another_row_takes_are_noted() -> None:
    subject, looks = Subject(ROW, Settings(consumer_name="orders")), Pair(look(at=NOW - APART), look())
    found = judged(ListedRow("orders", ROW), subject, looks, ["row x: topics_output names orders-dlq"])
    assert state(found) == ("warning", "idle")
    assert found.sentence.endswith(" Row x: topics_output names orders-dlq.")


def test_a_topic_that_is_missing_is_named_with_its_column() -> None:
    gone = KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)
    found = seen()
    subject = Subject(ROW, Settings(consumer_name="orders"))
    now = replace(look(), topics={**TOPICS, "out": gone})
    found = judged(ListedRow("orders", ROW), subject, Pair(look(), now))
    assert state(found) == ("bad", "row no good")
    assert "out of topics_output; 1 worker may go on by an older row" in found.sentence
    assert found.missing_topics == ("out",)


@pytest.mark.parametrize(
    "now",
    [
        Look(NOW, Trouble(heals=True, line="Kafka cannot be reached")),
        replace(look(), topics={**TOPICS, "a": KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)}),
        look(group=KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED)),
        look(commits_problem=KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED)),
        replace(look(), progress={}),
    ],
    ids=["away", "topic", "group", "commits", "no ends"],
)
def test_what_cannot_be_seen_is_bad_and_says_why(now: Look) -> None:
    subject = Subject(ROW, Settings(consumer_name="orders"))
    found = judged(ListedRow("orders", ROW), subject, Pair(now, now))
    assert state(found) == ("bad", "not seen")
    assert len(found.sentence) > 20


# ---------------------------------------------------------------- what else


def test_what_one_consumer_has_committed_hides_no_other() -> None:
    """Whatever cannot be judged is a line, as all else is."""
    odd = replace(part("a", 0, 10, 10), unfinished=1, waits=True, since=-200_000_000_000.0)
    found = seen(odd, before=[odd])
    assert (found.level, found.state) == ("bad", "not seen")
    assert found.sentence == "it cannot be judged: ValueError."


def test_dead_letters_make_a_good_line_one_to_be_looked_at() -> None:
    found = seen(letters=Letters(3, True, "2026-01-01", "process_failed", "NoSuchCustomer"))
    assert state(found) == ("warning", "idle")
    assert "3 dead letters, the newest: NoSuchCustomer." in found.sentence
    assert state(seen(letters=Letters(0))) == ("ok", "idle")
    assert "About 900 dead letters." in seen(letters=Letters(900, exact=False)).sentence


def test_partitions_that_nobody_reads_are_named() -> None:
    found = seen(group=ConsumerGroup("STABLE", (Member("10.0.0.5", "orders", "", ALL[:2]),)))
    assert "Nobody reads b 0-1" in found.sentence


def test_workers_of_another_row_are_told_with_their_topics() -> None:
    other = Member("10.0.0.9", "orders", "", (("a", 1), ("x", 0), ("x", 1)))
    found = seen(group=ConsumerGroup("STABLE", (Member("10.0.0.5", "orders", "", (*ALL[:1], *ALL[2:])), other)))
    assert found.level == "warning"
    assert "10.0.0.9 reads x, which is not in the row: by an older row, or by one in another database" in found.sentence


def test_a_tool_that_has_a_part_of_one_topic_is_told_for_its_mates_are_with_a_worker() -> None:
    """All was said to be well, while half of all pairs could not meet."""
    tool = Member("10.0.0.9", "console-consumer", "", (("a", 1),))
    found = seen(group=ConsumerGroup("STABLE", (Member("10.0.0.5", "orders", "", (*ALL[:1], *ALL[2:])), tool)))
    assert found.level == "warning"
    assert "Not all will meet: 10.0.0.5 has a 0, b 0-1; 10.0.0.9 has a 1: one of them is no worker" in found.sentence
    assert "meet" not in seen(group=TWO).sentence
    joining = seen(group=ConsumerGroup("PREPARING_REBALANCING", (Member("10.0.0.5", "orders", "", ALL[:3]), tool)))
    assert "meet" not in joining.sentence, "it is about to change"


def test_a_topic_that_the_workers_do_not_know_yet_is_not_told_as_a_tool() -> None:
    """After a topic was added to the row, an operator was sent to look for one."""
    for owned in [(ALL[:2],), (ALL[:1], ALL[1:2])]:
        members = tuple(Member(f"10.0.0.{number}", "orders", "", at) for number, at in enumerate(owned))
        found = seen(group=ConsumerGroup("STABLE", members))
        assert "Nobody reads b 0-1: its workers may go on by an older row." in found.sentence
        assert "meet" not in found.sentence


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"deleted": 7}, "7 were deleted"),
        ({"trouble": "log cut"}, "ends below what was committed"),
        ({"trouble": "former topic"}, "a was made again"),
        ({"trouble": "map elsewhere"}, "READ on its topic of maps"),
        ({"unfinished": 1, "waits": True, "since": NOW - 1000}, "MESSAGE_TIMEOUT (1 min by the row and the"),
    ],
)
def test_what_else_an_operator_should_know(more: dict[str, object], says: str) -> None:
    found = seen(part("a", 0, 10, 10, **more))
    assert found.level == "warning"
    assert says in found.sentence


def test_the_worst_come_first() -> None:
    still = part("a", 0, 10, 5000)
    bad, behind = seen(still, before=[still]), seen(replace(still, committed_at=NOW), before=[still])
    more = replace(bad, name="more", unread=10**6)
    assert worst_first([seen(), behind, bad, more]) == [more, bad, behind, seen()]


def test_partitions_are_written_as_runs() -> None:
    assert numbers([("b", 0), ("a", 3), ("a", 0), ("a", 1), ("a", 2), ("a", 7)]) == "a 0-3 7, b 0"
