"""What the commits of a group tell of the topics that its workers read."""

from collections.abc import Callable
from typing import cast

import pytest
from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Consumer, KafkaError, KafkaException, Message, TopicPartition, Uuid

from tests.builders import admin, partition_offsets
from utils.joining.layout import Layout
from utils.joining.offsets import Edition, JoinedWith, OffsetMap, PartitionOffsets, short_name, topic_tags
from utils.joining.references import was_brought
from utils.joining.states import FINISHED, UNFINISHED, States
from utils.kafka.lookups import Topic
from utils.kafka.properties import SESSION_TIMEOUT_MS
from utils.metrics import Counters
from utils.reading.locator import History, Locator, RowOutdated, readable

AB, ABC = ("a", "b"), ("a", "b", "c")


def history(*joined: JoinedWith) -> History:
    """A group whose commits, one a partition, were made by workers that read these topics."""
    commits = []
    for partition, each in enumerate(joined):
        metadata = OffsetMap("id", 5, 0, 0, States(5), each.encode()).encode()
        commits.append(TopicPartition("a", partition, 5, metadata))
    return History(commits, {"a": "id"}, {})


def by(topics: tuple[str, ...], edition: int) -> JoinedWith:
    return JoinedWith(topic_tags(topics), edition)


@pytest.mark.parametrize(
    "joined",
    [
        by(AB, 0),
        by(ABC, 1_764_000_000_123),
        JoinedWith(topic_tags(AB), 0, 3),
        JoinedWith(topic_tags(AB), 7, 31),
        JoinedWith(topic_tags(AB), 0, 0, "1.0.0"),
        JoinedWith(topic_tags(AB), 0, 0, "", "0a1b2c3d"),
        JoinedWith(topic_tags(AB), 7, 31, "1.0.0-rc+a", "0a1b2c3d"),
    ],
)
def test_which_topics_a_row_named_and_its_edition_travel_in_a_commit(joined: JoinedWith) -> None:
    assert JoinedWith.parse(joined.encode()) == joined
    assert [joined.names(topic) for topic in AB] == [True, True]
    assert not joined.names("z")


@pytest.mark.parametrize("text", ["", "@", "12@xyz", "12@-5", "12@7/", "12@/7", "12@7~", "12@7#", "12@7/3#x"])
def test_an_edition_that_is_no_number_is_not_known(text: str) -> None:
    assert JoinedWith.parse(text).edition == 0


def test_a_commit_of_another_tool_is_told_from_those_of_the_frame() -> None:
    """kafka-console-consumer with the group of a worker took what waited, and nothing said so."""
    ours = OffsetMap("id", 5, 0, 0, States(5), by(AB, 7).encode()).encode()
    for metadata, others, is_told in (
        ("", ours, True),
        ("junk", ours, True),
        ("adopted", ours, False),
        ("", "", False),
    ):
        commits = [TopicPartition("a", 0, 5, metadata), TopicPartition("a", 1, 5, others)]
        found = History(commits, {"a": "id"}, {})
        assert [found.is_of_another_tool("a", number) for number in range(3)] == [is_told, False, False]
        assert found.is_of_another_program() == (not others)
    assert not History([], {"a": "id"}, {}).is_of_another_program()


def test_a_commit_that_was_set_for_a_new_topic_before_any_worker_read_it_is_no_loss() -> None:
    """change-the-row.md says to set one, and it was an ERROR and the alert that maps are gone."""
    reset = TopicPartition("c", 0, 5, "")
    ids = {"a": "id", "c": "id of c"}
    before = OffsetMap("id", 5, 0, 0, States(5), by(AB, 7).encode()).encode()
    assert not History([TopicPartition("a", 0, 5, before), reset], ids, {}).is_of_another_tool("c", 0)
    since = OffsetMap("id", 5, 0, 0, States(5), by(ABC, 8).encode()).encode()
    assert History([TopicPartition("a", 0, 5, since), reset], ids, {}).is_of_another_tool("c", 0)


def test_a_topic_that_no_commit_names_is_new() -> None:
    assert history(by(AB, 7), by(AB, 9)).is_new("c", 0)
    assert not history(by(ABC, 9), by(AB, 7)).is_new("c", 0)
    assert not history().is_new("c", 0)


def test_a_topic_is_new_also_where_another_member_was_faster_to_commit_it() -> None:
    """They get it in one rebalance, and the partitions of each were those of other topics until then."""
    faster = history(by(ABC, 9), by(AB, 7))
    assert [faster.is_new("c", number) for number in range(2)] == [False, True]
    assert not faster.is_new("c", 2), "a partition that was added: it is read from its beginning"
    assert not history(by(AB, 7)).is_new("a", 1), "another one has made the first commit of all: the first start"


def test_the_commits_of_a_group_tell_how_many_partitions_the_topic_had() -> None:
    of_two, of_four, unknown = (by(AB, 7)._replace(partitions=number) for number in (2, 4, 0))
    assert history(of_four, of_four).known("a") == 4
    assert history(of_four, of_two, unknown).known("a") == 2, "another worker has seen the new ones first"
    assert history(unknown).known("a") == history().known("a") == history(of_two).known("b") == 0
    made_again = OffsetMap("of the one that is gone", 5, 0, 0, States(5), of_two.encode()).encode()
    commits = [TopicPartition("a", 0, 5, "of another tool"), TopicPartition("a", 3, 5, made_again)]
    assert History(commits, {"a": "id"}, {}).known("a") == 0


def test_of_the_maps_of_other_workers_only_the_heads_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """All were unpacked, which may take 20 ms each: seconds, for each of forty workers, at each rebalance."""
    unpacked: list[str] = []
    parse = OffsetMap.parse

    def noted(text: str | None) -> OffsetMap | None:
        unpacked.append(text or "")
        return parse(text)

    monkeypatch.setattr(OffsetMap, "parse", noted)
    texts = [
        OffsetMap("id", 5, 0, 0, States.of([UNFINISHED], 5), by(AB, edition)._replace(partitions=2).encode()).encode()
        for edition in (7, 9)
    ]
    commits = [TopicPartition("a", number, 5, text) for number, text in enumerate(texts)]
    found = History(commits, {"a": "id"}, {}, asked={("a", 0)})
    assert unpacked == texts[:1]
    assert found.edition(topic_tags(AB), 1) == 9
    assert found.known("a") == 2
    assert not found.is_of_another_tool("a", 1)
    assert not found.is_new("a", 1)
    assert found.committed("a", 0)[1] is not None


def test_workers_that_read_the_same_topics_do_not_differ_whichever_edition_names_them() -> None:
    assert not history(by(AB, 7), by(AB, 9)).differs(topic_tags(AB))
    assert history(by(AB, 7), by(ABC, 6)).differs(topic_tags(AB))
    assert history(by(ABC, 0)).differs(topic_tags(AB)), "it did not say which"
    assert not history().differs(topic_tags(AB))


def test_a_worker_takes_the_number_that_the_group_gave_to_its_topics() -> None:
    assert history().edition(topic_tags(AB), 1) == 1
    assert history(by(AB, 7), by(AB, 9), by(ABC, 8)).edition(topic_tags(AB), 1) == 9


@pytest.mark.parametrize("others", [8, 9])
def test_where_other_topics_have_a_number_as_high_only_the_row_tells_which_is_newer(others: int) -> None:
    with pytest.raises(RowOutdated) as raised:
        history(by(AB, 7), by(ABC, others)).edition(topic_tags(AB), 8)
    assert raised.value.edition == others


def test_who_has_read_the_row_since_goes_on_also_where_a_clock_was_ahead() -> None:
    edition, tomorrow = Edition(1), 1_764_400_000_000  # as commits of former versions say it: milliseconds
    others = history(by(ABC, tomorrow))
    with pytest.raises(RowOutdated) as raised:
        others.edition(topic_tags(AB), edition.number)
    edition.comes_after(raised.value.edition)
    assert others.edition(topic_tags(AB), edition.number) == tomorrow + 1


def test_a_reader_that_has_no_row_is_never_outdated() -> None:
    assert history(by(ABC, 9), by(AB, 3)).edition(topic_tags(AB), 0) == 0


def test_what_waited_for_a_topic_that_is_gone_is_gone() -> None:
    waiting = OffsetMap("id of before", 5, 0, 0, States.of((UNFINISHED, FINISHED, UNFINISHED), 5))
    commits = [TopicPartition("a", 0, 5, waiting.encode()), TopicPartition("a", 1, 5, "of another tool")]
    assert [History(commits, {"a": "id"}, {}).gone("a", number) for number in range(3)] == [2, 0, 0]
    assert History(commits, {"a": "id of before"}, {}).gone("a", 0) == 0


@pytest.mark.parametrize(
    ("earliest", "skipped", "gone"),
    [
        (0, [], 0),
        (5, [], 0),
        (7, [], 2),  # of what was deleted, these waited
        (9, [], 3),
        (20, [(9, 20)], 3),  # from 9 on nothing had been read
    ],
)
def test_what_was_read_before_retention_deleted_it_is_not_counted_as_unread(
    caplog: pytest.LogCaptureFixture, earliest: int, skipped: list[tuple[int, int]], gone: int
) -> None:
    loaded = OffsetMap("id", 5, 0, 0, States.of((UNFINISHED, UNFINISHED, FINISHED, UNFINISHED), 5))
    counters = Counters()
    locator = Locator(admin(), AB, 60.0, lambda _commits: {}, counters)
    offsets = locator._within(partition_offsets(5, loaded), earliest, 30)
    assert (offsets.position, offsets.gone) == (max(earliest, 5), gone)
    assert [(vars(line)["from"], vars(line)["to"]) for line in caplog.records] == skipped
    assert counters.skipped_by_retention == sum(to - begin for begin, to in skipped)


@pytest.mark.parametrize(("latest", "starts"), [(5, 1), (6, 5)])
def test_starts_count_only_where_something_is_there_that_may_have_ended_the_process(latest: int, starts: int) -> None:
    """Kills, while nothing comes in one of the partitions, once made the worker run all messages apart."""
    loaded = OffsetMap("id", 5, 0, 0, States(5), starts=4)
    locator = Locator(admin(), AB, 60.0, lambda _commits: {}, Counters())
    offsets = locator._within(partition_offsets(5, loaded), 0, latest)
    assert offsets.suspicion.starts_without_progress == starts


class Asked(Exception):
    """How long it may take."""


class Hidden:
    """A consumer whose commits are not told."""

    def committed(self, _partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        raise Asked(timeout)


def test_commits_beside_a_transaction_that_was_left_open_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("utils.reading.locator.describe", lambda *_: {"a": Topic("id", 1)})
    locator = Locator(admin(), ("a",), 60.0, lambda _commits: {}, Counters())
    with pytest.raises(Asked) as asked:
        locator(cast(Consumer, Hidden()), [TopicPartition("a", 0)], 0.0)
    seen_by_the_broker = 10.0  # the default of transaction.abort.timed.out.transaction.cleanup.interval.ms
    assert asked.value.args[0] > SESSION_TIMEOUT_MS / 1000 + seen_by_the_broker


class Telling:
    """A consumer that is told the commits at once."""

    def committed(self, partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        return partitions

    def close(self) -> None: ...


class Silent:
    """A consumer that waits for the commits in vain."""

    def committed(self, _partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "Failed to get committed offsets"))

    def close(self) -> None: ...


@pytest.mark.parametrize(("prober", "told"), [(Telling, "an open transaction hides the commits"), (Silent, "Failed")])
def test_a_transaction_that_hides_the_commits_is_told_from_brokers_that_do_not_answer(
    prober: Callable[[], Consumer], told: str
) -> None:
    locator = Locator(admin(), ("a",), 60.0, lambda _commits: {}, Counters(), prober=prober)
    with pytest.raises(KafkaException) as raised:
        locator._committed(cast(Consumer, Silent()), {("a", 0)}, {"a": Topic("id", 1)})
    assert raised.value.args[0].code() == KafkaError._TIMED_OUT
    assert raised.value.args[0].str().startswith(told)


def test_of_another_error_nobody_says_that_a_transaction_hides_the_commits() -> None:
    class Refused:
        def committed(self, _partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]:
            raise KafkaException(KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED))

    locator = Locator(
        admin(), ("a",), 60.0, lambda _commits: {}, Counters(), prober=cast(Callable[[], Consumer], Telling)
    )
    with pytest.raises(KafkaException) as raised:
        locator._committed(cast(Consumer, Refused()), {("a", 0)}, {"a": Topic("id", 1)})
    assert raised.value.args[0].code() == KafkaError.GROUP_AUTHORIZATION_FAILED


def test_only_for_the_commits_of_its_own_partitions_a_worker_waits_for_transactions() -> None:
    """Among busy workers there is always one with a transaction: who came back waited for seconds, or in vain."""
    waited: list[TopicPartition] = []

    class Waiting:
        def committed(self, partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]:
            waited.extend(partitions)
            return partitions

    prober = cast(Callable[[], Consumer], Telling)
    locator = Locator(admin(), ("a", "b"), 60.0, lambda _commits: {}, Counters(), prober=prober)
    topics = {"a": Topic("id", 2), "b": Topic("id", 2)}
    for ours in ({("a", 0), ("b", 0)}, {("a", 0), ("a", 1), ("b", 0), ("b", 1)}):
        waited.clear()
        found = locator._committed(cast(Consumer, Waiting()), ours, topics)
        assert {(each.topic, each.partition) for each in waited} == ours
        assert len(found) == 4


def test_where_a_partition_has_no_leader_none_is_read_that_is_joined_with_it() -> None:
    """What had met a part of it would be joined with a later one."""
    owned = [TopicPartition(topic, number) for topic in AB for number in range(2)]
    away = frozenset({0})
    for a, b, read in (
        (Topic("a", 2), Topic("b", 2), owned),
        (Topic("a", 2), Topic("b", 2, leaderless=away), [owned[1], owned[3]]),
        (Topic("a", 3), Topic("b", 2, leaderless=away), []),
    ):
        assert readable(owned, {"a": a, "b": b}) == read


class Dated:
    """A consumer of a broker that has one answer to where a time is; -1: all records are older."""

    def __init__(self, offset: int) -> None:
        self._offset = offset

    def offsets_for_times(self, asked: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        return [TopicPartition(each.topic, each.partition, self._offset) for each in asked]


@pytest.mark.parametrize(("by_time", "seen", "start"), [(3, 7, 3), (8, 7, 7), (-1, 7, 7), (-1, None, 9), (8, None, 8)])
def test_a_new_topic_is_read_from_a_time_on_but_not_later_than_where_it_ended_when_the_row_was_seen(
    by_time: int, seen: int | None, start: int, caplog: pytest.LogCaptureFixture
) -> None:
    ends = {} if seen is None else {("c", 0): seen}
    locator = Locator(admin(), ABC, 60.0, lambda _commits: {}, Counters(), ends=ends)
    assert locator._recent(cast(Consumer, Dated(by_time)), "c", 0, 0, 3, 9) == start
    left_out = [vars(line) for line in caplog.records if line.levelname == "WARNING"]
    assert [(line["from"], line["to"]) for line in left_out] == ([(3, start)] if start > 3 else [])


class Told:
    """A client that is given one message of each partition, and then no more."""

    def __init__(self, *messages: Message) -> None:
        self._messages = {(message.topic(), message.partition()): message for message in messages}
        self.asked: list[tuple[str, int, int]] = []
        self.closed = False

    def assign(self, partitions: list[TopicPartition]) -> None:
        self.asked = [(each.topic, each.partition, each.offset) for each in partitions]

    def poll(self, _timeout: float) -> Message:
        return self._messages.popitem()[1]

    def pause(self, _partitions: list[TopicPartition]) -> None:
        pass

    def close(self) -> None:
        self.closed = True


def record(partition: int, timestamp: tuple[int, int]) -> Message:
    return Message(topic="a", partition=partition, offset=9, timestamp=timestamp)


END = Message(topic="a", partition=1, offset=9, error=KafkaError(KafkaError._PARTITION_EOF))
UNDATED = record(1, (TIMESTAMP_NOT_AVAILABLE, -1))


@pytest.mark.parametrize(
    ("first", "second", "since"),
    [
        pytest.param(record(0, (1, 700_000)), record(1, (1, 800_000)), 640_000, id="the oldest"),
        pytest.param(record(0, (2, 700_000)), END, 640_000, id="nothing is unfinished in one"),
        pytest.param(record(0, (1, 1_700_000)), END, 940_000, id="of the future"),
        pytest.param(record(0, (1, 3)), UNDATED, 0, id="as old as can be"),
        pytest.param(record(0, (0, -1)), UNDATED, 940_000, id="without timestamps"),
    ],
)
def test_a_new_topic_is_read_from_a_timeout_before_what_is_unfinished_in_the_others(
    first: Message, second: Message, since: int
) -> None:
    others = [PartitionOffsets("a", number, Layout("id"), 4 + number) for number in range(2)]
    told = Told(first, second)
    prober = cast(Callable[[], Consumer], lambda: told)
    locator = Locator(admin(), ABC, 60.0, lambda _commits: {}, Counters(), wall_clock=lambda: 1_000.0, prober=prober)
    assert locator._since(others) == since
    assert (told.asked, told.closed) == ([("a", 0, 4), ("a", 1, 5)], True)


class Foreign(TopicPartition):
    """A commit of another tool, of whose metadata the client reads too much."""

    @property
    def metadata(self) -> str | None:  # type: ignore[override]
        return b"\xff".decode()


def test_metadata_that_is_no_text_is_as_if_it_were_absent() -> None:
    history = History([Foreign("a", 0, 5)], {"a": "id"}, {})
    assert history.edition(topic_tags(["a"]), 1) == 1
    assert history.gone("a", 0) == 0


def test_where_a_tool_has_set_the_offset_back_and_kept_the_map_all_is_read_again() -> None:
    kept = OffsetMap("id", 5, 0, 0, States.of(b"\x00\x01", 5)).encode()
    commits = [TopicPartition("a", 0, 5, kept), TopicPartition("a", 1, 0, kept), TopicPartition("a", 2, 9, kept)]
    found = History(commits, {"a": "id"}, {})
    assert found.committed("a", 0) == (5, OffsetMap.parse(kept))
    assert [found.committed("a", number) for number in (1, 2)] == [(0, None), (9, None)]


def test_how_far_a_log_was_read_is_told_by_the_map_that_fits_and_the_epoch_by_the_commit() -> None:
    text = OffsetMap("id", 5, 0, 0, States.of((UNFINISHED, FINISHED, UNFINISHED), 5)).encode()
    commits = [TopicPartition("a", 0, 5, text, 3), TopicPartition("a", 1, 6, text, 3), TopicPartition("a", 2, 5, "x")]
    ours, former = History(commits, {"a": "id"}, {}), History(commits, {"a": "id of before"}, {})
    assert [ours.read_up_to("a", number) for number in range(4)] == [8, None, None, None]
    assert [ours.epoch("a", number) for number in range(4)] == [3, 3, -1, -1]
    assert (former.read_up_to("a", 0), former.epoch("a", 0)) == (None, -1)


# ---------------------------------------------------------------- commits that a tool has brought from another cluster

HERE, THERE = short_name("here"), short_name("there")


def made_on(cluster: str, topic_id: str = "id of there", topics: tuple[str, ...] = AB) -> History:
    """A group with one commit, which was made on that cluster, and which stands on the one here."""
    states = States.of((UNFINISHED, FINISHED), 5)
    joined = JoinedWith(topic_tags(topics), 7, 2, cluster=cluster).encode()
    text = OffsetMap(topic_id, 5, 0, 0, states, joined).encode()
    return History([TopicPartition("a", 0, 5, text, 3)], {"a": "id"}, {}, HERE)


def test_a_commit_of_another_cluster_keeps_its_offset_without_its_map() -> None:
    history = made_on(THERE)
    assert history.committed("a", 0) == (5, None)
    assert history.gone("a", 0) == 0
    assert (history.read_up_to("a", 0), history.epoch("a", 0)) == (None, -1)


@pytest.mark.parametrize("cluster", [HERE, ""])
def test_a_topic_that_was_really_made_again_is_still_told_from_it(cluster: str) -> None:
    history = made_on(cluster)
    assert history.committed("a", 0) == (None, None)
    assert history.gone("a", 0) == 1


@pytest.mark.parametrize("none", ["", str(Uuid(0, 0))])
def test_a_commit_made_before_the_brokers_had_identities_of_topics_stands_after_their_upgrade(none: str) -> None:
    """Kafka below 2.8. All was read from its beginning, and every result sent a second time."""
    history = made_on(HERE, none)
    offset, found = history.committed("a", 0)
    assert offset == 5
    assert found is not None
    assert (history.read_up_to("a", 0), history.gone("a", 0), history.epoch("a", 0)) == (7, 0, 3)
    elsewhere = made_on(THERE, none)
    assert elsewhere.committed("a", 0) == (5, None)
    assert elsewhere.epoch("a", 0) == -1


@pytest.mark.parametrize("cluster", [HERE, THERE])
def test_a_commit_of_this_very_topic_keeps_its_map_also_where_the_cluster_has_another_name_now(cluster: str) -> None:
    offset, found = made_on(cluster, "id").committed("a", 0)
    assert offset == 5
    assert found is not None


def test_what_another_cluster_calls_its_topics_makes_none_of_here_new_and_no_row_outdated() -> None:
    history = made_on(THERE, topics=("x", "y"))
    assert not history.is_new("a", 0)
    assert not history.differs(topic_tags(AB))
    assert history.edition(topic_tags(AB), 1) == 1
    assert made_on(HERE, topics=("x", "y")).is_new("a", 0)


def test_a_worker_that_does_not_know_its_cluster_takes_no_commit_for_one_of_another() -> None:
    head = OffsetMap("id of there", 5, 0, 0, States(5), JoinedWith("", 0, cluster=THERE).encode())
    assert was_brought(head, "id", HERE)
    assert not was_brought(head, "id", "")
    assert not was_brought(None, "id", HERE)
