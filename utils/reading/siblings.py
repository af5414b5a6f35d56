"""Where the other parts of an id are: siblings are the partitions with the same number in the other input topics.

No Kafka. What the keys of the records tell is in `keys.py`.
"""

from collections.abc import Callable, Sequence

from utils.joining.aggregator import NEVER
from utils.reading.batches import Record
from utils.reading.keys import KeyWatch
from utils.reading.owned import OwnedPartitions


class Siblings:
    """Whether the input topics are co-partitioned, and whether the siblings of our partitions are ours, too."""

    def __init__(
        self,
        owned: OwnedPartitions,
        keys: KeyWatch,
        clock: Callable[[], float],
        settle: float = 0.0,
        topics_changed_at: float = NEVER,
    ) -> None:
        """`settle`, `topics_changed_at`: see Waits."""
        self._owned = owned
        self._keys = keys
        self._clock = clock
        self._settle = settle
        self._settled_at = topics_changed_at + settle
        self._grown = False  # partitions were added to a topic
        self.some_are_left_out = False  # of our partitions, which are not read

    def rebalanced(self, *, some_are_left_out: bool = False) -> None:
        """After `owned` was."""
        self.some_are_left_out = some_are_left_out
        layouts = [offsets.layout for offsets in self._owned.partitions.values()]
        if any(layout.differs for layout in layouts):
            self._settled_at = self._clock() + self._settle
        self._grown = self._grown or any(layout.grown for layout in layouts)

    def look(self, records: Sequence[Record]) -> None:
        """Look at the keys of a few of these records, which have just been read."""
        self._keys.look(records, self._owned.partitions)

    def are_together(self) -> bool:
        """Whether it is known that fragments of an id have the same partition number in all topics.

        Not where partitions were added: the keys may be alike again, but what came before lies where it lay. Nor where
        one record was seen that lies elsewhere: there may be more, and what one of them completes must not be given up.
        """
        return self._are_together(all_records=True)

    def are_mostly_together(self) -> bool:
        """The same of nearly all ids."""
        return self._are_together(all_records=False)

    def _are_together(self, *, all_records: bool) -> bool:
        numbers = self._numbers()
        return not self._grown and _are_equal(numbers) and self._keys.are_alike([*numbers], all_records=all_records)

    def are_all_here(self) -> bool:
        """Whether all partitions of all topics are ours."""
        partitions = {topic: offsets.layout.partitions for (topic, _), offsets in self._owned.partitions.items()}
        return all(len(each) >= partitions[topic] for topic, each in self._numbers().items())

    def may_be_elsewhere(self, now: float) -> bool:
        """Whether a missing part may be with another worker of the consumer, which may read other topics than ours."""
        return now < self._settled_at or self.are_apart()

    def are_apart(self) -> bool:
        """Whether partitions are here whose siblings are with another member of the consumer group.

        `range` does that only while its members read other topics than each other.
        """
        return not _are_equal(self._numbers()) and not self.are_all_here()

    def _numbers(self) -> dict[str, set[int]]:
        """The partition numbers that are ours, by topic."""
        numbers: dict[str, set[int]] = {}
        for topic, number in self._owned.partitions:
            numbers.setdefault(topic, set()).add(number)
        return numbers


def _are_equal(numbers: dict[str, set[int]]) -> bool:
    return len({frozenset(each) for each in numbers.values()}) <= 1
