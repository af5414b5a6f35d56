"""Where partitions end, and when, asked of the broker without making the loop wait.

A consumer's own question comes behind its fetch, on the same connection: half a second later (`fetch.wait.max.ms`) when
a partition is at its end. And any other call of that consumer waits with it, in whichever thread (measured, client
2.16). An admin client has connections of its own.
"""

from collections.abc import Iterable
from concurrent.futures import Future

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import ListOffsetsResultInfo, OffsetSpec

from utils.kafka.answers import answered
from utils.logger import logger

_LATEST = OffsetSpec.latest()  # type: ignore[no-untyped-call]
_NEWEST = OffsetSpec.max_timestamp()  # type: ignore[no-untyped-call]
_REQUEST = 5.0  # seconds that one question may take
TOLD_EVERY = 10.0  # seconds: a question that fails at once is asked again at once

Partition = tuple[str, int]


def ends_now(
    admin: AdminClient, partitions: Iterable[Partition], isolation: IsolationLevel = IsolationLevel.READ_COMMITTED
) -> dict[Partition, int]:
    """Waits for the answers. Raises KafkaException."""
    wanted = {TopicPartition(*at): _LATEST for at in partitions}
    if not wanted:
        return {}
    futures = admin.list_offsets(wanted, isolation_level=isolation, request_timeout=_REQUEST)
    return {(each.topic, each.partition): _offset(future) for each, future in futures.items()}


def _offset(future: "Future[ListOffsetsResultInfo]") -> int:
    """Where the broker of a partition has not answered in time while others did, the client tells -1001, and no error
    (measured). Taken for an end it would say that all has been read. Raises KafkaException.
    """
    offset: int = answered(future).offset
    if offset < 0:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
    return offset


def newest_times(admin: AdminClient, topics: Iterable[str]) -> list[int]:
    """The latest time of a message in each partition of these topics, in ms since 1970; -1 where there is none.

    Nothing of a topic that is not there, nor of a partition that does not answer. Raises KafkaException.
    """
    known = admin.list_topics(timeout=_REQUEST).topics
    there = [topic for topic in topics if topic in known]
    wanted = {TopicPartition(topic, number): _NEWEST for topic in there for number in known[topic].partitions}
    futures = admin.list_offsets(wanted, request_timeout=_REQUEST)
    return [future.result().timestamp for future in futures.values() if future.exception() is None]


class EndOffsets:
    """One open question a partition. With `READ_COMMITTED` what an open transaction hides comes after the end."""

    def __init__(self, admin: AdminClient, isolation: IsolationLevel) -> None:
        self._admin = admin
        self._isolation = isolation
        self._open: dict[Partition, tuple[float, Future[ListOffsetsResultInfo]]] = {}
        self._tell_from = float("-inf")

    def ask(self, partitions: Iterable[Partition], now: float) -> None:
        """Ask for those for which no question is open."""
        wanted = {TopicPartition(*at): _LATEST for at in partitions if at not in self._open}
        if wanted:
            futures = self._admin.list_offsets(wanted, isolation_level=self._isolation, request_timeout=_REQUEST)
            self._open |= {(each.topic, each.partition): (now, future) for each, future in futures.items()}

    def answers(self) -> dict[Partition, tuple[float, int]]:
        """What has been answered, each answer once: when it was asked for, and the offset. One that failed is none."""
        done = {at: each for at, each in self._open.items() if each[1].done()}
        self._open = {at: each for at, each in self._open.items() if at not in done}
        ends = {}
        for at, (asked, future) in done.items():
            try:
                ends[at] = (asked, _offset(future))
            except KafkaException as error:
                if asked >= self._tell_from:
                    self._tell_from = asked + TOLD_EVERY
                    logger.warning("waiting for the ends of the partitions", extra={"error": str(error)})
        return ends

    def forget(self) -> None:
        """Nobody wants to know any more."""
        self._open = {}
