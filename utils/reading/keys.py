"""Looks at the keys of a few records: do the input topics have the messages of an id in the same partition number?

No Kafka. What `utils/joining/partitions.py` finds goes to the log, to the counters and to what health says.
"""

from collections.abc import Callable, Collection, Mapping, Sequence

from utils.joining.messages import read_each, read_ids
from utils.joining.offsets import PartitionOffsets
from utils.joining.partitions import Keys
from utils.logger import logger
from utils.metrics import Counters
from utils.reading.batches import Record

FIRST = 1000  # records whose keys are looked at without delay, of topics of which too little is known
EARLY = 64  # of them in one batch
SAMPLE = 16  # records of a batch that are looked at afterwards:
EVERY = 0.1  # once in so many seconds while there is such a topic,
SELDOM = 1.0  # as seldom as this when there is none
CURE = "let the producers use the id as the key and partitioner=murmur2_random (Java: the default partitioner)"


class KeyWatch:
    """Names each input topic whose keys do not fit those of the others, once for each change."""

    def __init__(self, counters: Counters, mismatches: dict[str, str], clock: Callable[[], float]) -> None:
        """`mismatches`: all that there are, by topic. It outlives this worker, and what an earlier one has found holds
        until enough is known anew.
        """
        self._counters = counters
        self._mismatches = mismatches
        self._clock = clock
        self._keys = Keys()
        self._next = 0.0
        self._looked_at = 0
        self._is_early = True  # each batch is looked at that has records of a topic which cannot be judged yet

    def assigned(self, topics: Collection[str]) -> None:
        """Partitions of these are ours now. Of fewer than two nothing is looked at. What was said of others holds no
        more, by whichever worker of this process.
        """
        if len(topics) < 2:
            topics = ()
            self._keys, self._looked_at = Keys(), 0
        for topic in self._mismatches.keys() - set(topics):
            del self._mismatches[topic]

    def look(self, records: Sequence[Record], owned: Mapping[tuple[str, int], PartitionOffsets]) -> None:
        """Sample a batch that was read, if it is time for that; `owned`: the partitions of this worker."""
        now = self._clock()
        if not records or (now < self._next and not self._is_early):
            return
        if len({topic for topic, _ in owned}) < 2:
            return
        unknown = self._unknown(owned)
        self._is_early = bool(unknown) and self._looked_at < FIRST
        sample = _sample(records, EARLY, unknown) if self._is_early else []
        self._looked_at += len(sample)
        if not sample:
            if now < self._next:
                return
            sample = _sample(records, SAMPLE)
            self._next = now + (EVERY if unknown else SELDOM)
        self._take(sample, owned)
        self._note(self._keys.judge(), all_are_judged=not self._unknown(owned))

    def are_alike(self, topics: Sequence[str], *, all_records: bool) -> bool:
        """Whether it is known that these topics have nearly each id in the same partition number, or each."""
        return self._keys.are_all_alike(topics) if all_records else self._keys.are_alike(topics)

    def _unknown(self, owned: Mapping[tuple[str, int], PartitionOffsets]) -> set[str]:
        """The topics that cannot be judged yet. With one partition there is nothing to judge: any key is right."""
        judged = self._keys.is_judged
        return {topic for (topic, _), each in owned.items() if each.layout.partitions > 1 and not judged(topic)}

    def _take(self, sample: Sequence[Record], owned: Mapping[tuple[str, int], PartitionOffsets]) -> None:
        ids, _ = read_ids(read_each("value", sample)[0])
        keys, _ = read_each("key", sample)
        for record, key, id in zip(sample, keys, ids, strict=True):
            if id:
                at = record.topic(), record.partition()
                self._keys.sample(*at, owned[at].layout.partitions, key, id)

    def _note(self, found: dict[str, str], *, all_are_judged: bool) -> None:
        for topic, mismatch in found.items():
            if self._mismatches.get(topic) != mismatch:
                self._counters.mismatches += 1
                facts = {"topic": topic, "mismatch": mismatch, "cure": CURE}
                logger.error("keys do not fit those of the other topics", extra=facts)
        self._mismatches.update(found)
        for topic in self._mismatches.keys() - found.keys() if all_are_judged else ():
            logger.info("keys fit those of the other topics again", extra={"topic": topic})
            del self._mismatches[topic]


def _sample(records: Sequence[Record], most: int, topics: Collection[str] = ()) -> list[Record]:
    """So many of them at most, spread over all; of these topics only, if there are any."""
    spread = records[:: len(records) // most + 1]
    return [record for record in spread if not topics or record.topic() in topics]
