"""Records out of Kafka's client, by the batch. Knows no offsets: what becomes of a batch is not its concern."""

import time
from collections.abc import Callable
from typing import cast

from confluent_kafka import Consumer, KafkaError, KafkaException, Message

from config import ConfigError
from utils.kafka.ends import Partition
from utils.logger import logger
from utils.reading.batches import Record

BATCH = 1000  # records that one read takes at most; larger ones leave the processor's caches (measured)
TOLD_AGAIN = 300.0  # seconds until it is said once more that another program keeps the worker out of its group
FEW = 100  # records: a read of fewer has left none behind, and what comes soon after it may stay for more

_MENDED_BY_THE_CLIENT = {
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._RESOLVE,
    KafkaError._TIMED_OUT,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.NOT_COORDINATOR,
    KafkaError.INCONSISTENT_GROUP_PROTOCOL,
}


class Fetching:
    """Takes what has come, and stays a moment for more where records come a few at a time."""

    def __init__(
        self,
        consumer: Consumer,
        gather: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`gather`: see Waits."""
        self._consumer = consumer
        self._gather = gather
        self._clock = clock
        self._sleep = sleep
        self.overtaken: set[Partition] = set()  # not read any more: the broker does not have what comes next there
        self._next_told = float("-inf")  # that another program keeps us out
        self._soon = 0.0  # until when a record comes soon after a read of a few

    def next(self, wait: float, most: int = BATCH) -> list[Record]:
        """The next records, `most` of them, as soon as there are any; waits up to `wait` seconds for the first.

        Unless `wait` is 0, what comes soon after a read of a few stays for `gather` seconds, for more to come.
        Raises KafkaException for what the client does not mend by itself, ConfigError where a topic is gone.
        """
        first = self._first(wait)
        messages = [first] if first is not None else []
        if messages and most > 1:
            messages += self._consumer.consume(most - 1, 0)
        self._soon = self._clock() + self._gather if 0 < len(messages) < min(FEW, most) else 0.0
        if [message for message in messages if message.error()]:
            messages = [each for each in messages if not self._is_event(each)]
        return cast("list[Record]", messages)

    def _first(self, wait: float) -> Message | None:
        """The next message, after it has stayed for others where it shall."""
        first, stays_until = self._consumer.poll(0), self._soon  # at the earliest it came right after the last read
        if first is None and wait:
            first, came = self._consumer.poll(wait), self._clock()
            stays_until = came + self._gather if came < self._soon else came
        if wait and first is not None and (early := stays_until - self._clock()) > 0:
            self._sleep(early)
        return first

    def _is_event(self, message: Message) -> bool:
        """Whether this is an error in place of a record. Raised unless it is mended, by the client or the owner."""
        error, topic, partition = message.error(), message.topic(), message.partition()
        if error is None:
            return False
        if error.code() == KafkaError._AUTO_OFFSET_RESET and topic is not None and partition is not None:
            self.overtaken.add((topic, partition))
            return True
        if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise ConfigError([f"an input topic is gone: make it again, or take it out of the row ({error.str()})"])
        if error.code() not in _MENDED_BY_THE_CLIENT:
            raise KafkaException(error)
        if error.code() != KafkaError.INCONSISTENT_GROUP_PROTOCOL:
            logger.warning("waiting for Kafka", extra={"error": error.str()})
        elif (now := self._clock()) >= self._next_told:  # the client tries every two seconds
            self._next_told = now + TOLD_AGAIN
            logger.warning("waiting: another program in the consumer group assigns partitions in another way; end it")
        return True
