"""Leaps over what is done: where much of it lies before the next record that is not, reading goes on there.

One message may wait for hours. The commit stands before it, and millions that came later are done. After a rebalance
the brokers need not send them once more. No decoding, no clock.
"""

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from utils.joining.offsets import PartitionOffsets
from utils.reading.owned import OwnedPartitions

FAR = 5_000  # offsets: to seek over them takes a few ms; to fetch and skip them takes longer, whatever they hold
NOT_READ = {
    KafkaError._STATE,
    KafkaError._PREV_IN_PROGRESS,
}  # a fetch that has ended: by retention, say


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
            wanted = offsets.next_wanted() if offsets.may_replay() else 0
            if wanted - offsets.position >= self._far and self._seeks(offsets, wanted):
                offsets.skip_to(wanted)

    def _seeks(self, offsets: PartitionOffsets, wanted: int) -> bool:
        """False where the client does not read this partition just now: what is done is read then, and skipped."""
        topic, partition, _, metadata, epoch = offsets.place
        try:
            self._consumer.seek(TopicPartition(topic, partition, wanted, metadata, epoch))
        except KafkaException as error:
            if error.args[0].code() in NOT_READ:
                return False
            raise
        return True
