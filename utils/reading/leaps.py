"""Leaps over what is done: where much of it lies before the next record that is not, reading goes on there.

One message may wait for hours. The commit stands before it, and millions that came later are done. After a rebalance
the brokers need not send them once more. No decoding, no clock.
"""

from confluent_kafka import Consumer, TopicPartition

from utils.reading.owned import OwnedPartitions

FAR = 5_000  # offsets: to seek over them takes a few ms; to fetch and skip them takes longer, whatever they hold


class Leaps:
    """Of all partitions that are owned. `is_due`: among the last records that were read, some were done before."""

    def __init__(self, consumer: Consumer, owned: OwnedPartitions, far: int = FAR) -> None:
        self._consumer = consumer
        self._owned = owned
        self._far = far
        self.is_due = False

    def take(self) -> None:
        """Raises KafkaException."""
        if not self.is_due:
            return
        self.is_due = False
        for offsets in self._owned.partitions.values():
            if offsets.may_replay() and offsets.next_wanted() - offsets.position >= self._far:
                offsets.skip_to(offsets.next_wanted())
                self._consumer.seek(TopicPartition(*offsets.place))
