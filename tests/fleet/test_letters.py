"""Dead letters that nobody has dealt with are counted by reading them, or by their offsets where there are too many."""

from collections.abc import Callable
from itertools import count as numbers

import pytest
from confluent_kafka import KafkaError, TopicPartition

from tests.fakes import FakeMessage
from utils.fleet.letters import MOST, Letters, Pile, letters
from utils.joining.aggregator import Group
from utils.joining.dead_letters import INCOMPLETE, PROCESS_FAILED, write
from utils.joining.layout import Layout
from utils.joining.messages import Fragment
from utils.joining.offsets import OffsetMap, PartitionOffsets
from utils.joining.progress import Log as PartitionLog
from utils.joining.states import FINISHED, UNFINISHED, States
from utils.kafka.groups import Commit, Commits
from utils.kafka.ranges import QUIET

AT = ("dead", 0)


class Log:
    """The consumer: a partition with these records, and gaps where others would be."""

    def __init__(self, records: list[FakeMessage], end: int, *, stuck: bool = False, refused: bool = False) -> None:
        self.records, self.end, self.at, self.stuck, self.refused = records, end, -1, stuck or refused, refused
        self.read = 0

    def list_topics(self, _topic: str, timeout: float) -> None:
        assert timeout > 0

    def assign(self, partitions: list[TopicPartition]) -> None:
        [assigned] = partitions
        self.at = assigned.offset

    def poll(self, _wait: float) -> FakeMessage | None:
        if self.refused:
            return FakeMessage(AT, 0, None, KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))
        return next(iter(self.consume(1, 0)), None)

    def consume(self, number: int, wait: float) -> list[FakeMessage]:
        assert wait == 0, "it would wait for a full batch"
        if self.stuck:
            return []
        found = [each for each in self.records if self.at <= each.offset()][:number]
        self.at = found[-1].offset() + 1 if found else self.end
        self.read += len(found)
        return found

    def position(self, _partitions: list[TopicPartition]) -> list[TopicPartition]:
        return [TopicPartition(*AT, self.at)]

    def incremental_unassign(self, _partitions: list[TopicPartition]) -> None: ...

    def unassign(self) -> None: ...

    def close(self) -> None: ...


def letter(offset: int, time: str, *, consumer: str = "orders", missing: str = "") -> FakeMessage:
    group = Group("id", (Fragment(0, PartitionOffsets("a", 0, Layout(""), 0), 5, b"{}"),))
    error = None if missing else ValueError(f"oh at {time}")
    reason = INCOMPLETE if missing else PROCESS_FAILED
    lacking = [missing] if missing else []
    made = write(group, reason, consumer=consumer, time=time, error=error, missing=lacking)
    return FakeMessage(AT, offset, made.value, its_key=made.key, its_headers=made.headers)


def counted(
    log: Log,
    begin: int,
    done: Commits | None = None,
    clock: Callable[[], float] = lambda: 0.0,
    deadline: float = 1.0,
) -> Letters:
    piles = [Pile("orders", "dead", {0: PartitionLog("", begin, log.end)}, done or {})]
    found = letters(lambda: log, piles, deadline, clock)  # type: ignore[arg-type, return-value]
    return found["orders"]


def test_markers_of_transactions_between_them_are_no_letters() -> None:
    log = Log([letter(0, "2026-01-01T00:00:00Z"), letter(2, "2026-01-02T00:00:00Z")], end=4)
    assert counted(log, 0).count == 2


def test_the_newest_tells_what_happened() -> None:
    log = Log([letter(0, "2026-01-02T00:00:00Z"), letter(1, "2026-01-01T00:00:00Z")], end=2)
    found = counted(log, 0)
    assert (found.time, found.reason) == ("2026-01-02T00:00:00Z", PROCESS_FAILED)
    assert found.error == "ValueError", "its text may quote the message, and the page has no login"
    assert counted(Log([letter(0, "2026-01-01T00:00:00Z", missing="b")], end=1), 0).error == "nothing came on b"


def test_those_of_others_in_the_same_topic_are_not_ours() -> None:
    log = Log([letter(0, "1", consumer="payments"), letter(1, "2")], end=2)
    assert counted(log, 0).count == 1


def test_what_was_replayed_or_discarded_does_not_count() -> None:
    states = States.of([UNFINISHED, FINISHED, UNFINISHED], 1)
    done = {AT: Commit(1, OffsetMap("", 1, 0, 0, states).encode())}
    log = Log([letter(offset, str(offset)) for offset in range(6)], end=6)
    assert counted(log, 0, done).count == 4  # 1, 3, 4, 5
    assert log.read == 5


def test_nothing_is_read_where_all_are_done_with_or_none_is_left() -> None:
    log = Log([letter(0, "1")], end=1)
    assert counted(log, 0, {AT: Commit(1, None)}) == Letters(0)
    assert counted(log, 1) == Letters(0)
    assert log.at == -1


def test_of_very_many_only_the_last_are_read() -> None:
    log = Log([letter(offset, f"{offset:05}") for offset in range(MOST + 70)], end=MOST + 70)
    found = counted(log, 0)
    assert (found.count, found.exact, found.time) == (MOST + 70, False, f"{MOST + 69:05}")
    assert log.read == MOST


@pytest.mark.parametrize(("every", "count"), [(2, (2 * MOST) // 2), (MOST + 1, 0)])
def test_those_that_are_not_read_are_shared_out_as_those_that_are(every: int, count: int) -> None:
    """A topic for forty consumers: each of them seemed to have all that lies there."""
    records = [letter(at, "1", consumer="payments" if at % every else "orders") for at in range(1, 2 * MOST + 1)]
    log = Log([each for each in records if each.offset() % (MOST + 1)] if not count else records, end=2 * MOST + 1)
    found = counted(log, 0)
    assert (found.count, found.exact) == (count, False)


def test_what_cannot_be_read_in_time_is_counted_by_its_offsets() -> None:
    times = numbers(step=0.2)
    found = counted(Log([letter(0, "1")], end=3, stuck=True), 0, clock=lambda: next(times))
    assert found == Letters(3, exact=False)


def test_what_may_not_be_read_is_counted_by_its_offsets_too_and_at_once() -> None:
    assert counted(Log([letter(0, "1")], end=3, refused=True), 0) == Letters(3, exact=False)


def test_where_brokers_fall_silent_meanwhile_so_are_the_others() -> None:
    times = numbers(step=QUIET / 2)
    log = Log([letter(0, "1")], end=3, stuck=True)
    assert counted(log, 0, clock=lambda: next(times), deadline=1e9) == Letters(3, exact=False)
