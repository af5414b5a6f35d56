"""Which partition a key belongs to, and what a sample of records tells of how the producers of a topic choose it.

Pure: no Kafka, no clock, no logging.
"""

import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

WINDOW = 50  # ids on which a judgement of a topic stands, all different
NEARLY_ALL = 48  # of them must agree before anything is said
MOST = 40  # must still agree, so that it goes on to be said: a few odd records change nothing

MURMUR2, CRC32, NEITHER = "murmur2", "CRC32", "neither murmur2 nor CRC32"
NO_KEY, ANOTHER_KEY, MIXED_KEYS = "none", "not the id", "not always the id"
_WRONG_KEYS = {NO_KEY, ANOTHER_KEY, MIXED_KEYS}


def murmur2(key: bytes, partitions: int) -> int:
    """As Java's default partitioner, and as librdkafka's `murmur2` and `murmur2_random`."""
    return (_murmur2(key) & 0x7FFFFFFF) % partitions


def crc32(key: bytes, partitions: int) -> int:
    """As librdkafka's `consistent` and `consistent_random`, its default."""
    return zlib.crc32(key) % partitions


def _murmur2(key: bytes) -> int:
    """Austin Appleby's MurmurHash2 with the seed of `org.apache.kafka.common.utils.Utils.murmur2`, unsigned."""
    multiplier, mask = 0x5BD1E995, 0xFFFFFFFF
    length = len(key)
    value = 0x9747B28C ^ length
    whole = length & ~3
    for start in range(0, whole, 4):
        word = int.from_bytes(key[start : start + 4], "little") * multiplier & mask
        value = value * multiplier & mask ^ (word ^ word >> 24) * multiplier & mask
    if length > whole:
        value = (value ^ int.from_bytes(key[whole:], "little")) * multiplier & mask
    value = (value ^ value >> 13) * multiplier & mask
    return value ^ value >> 15


def form_of(key: bytes | None, id: str) -> str:
    """How the key says the id: as text, as JSON, or as one of Java's whole numbers; or that it does not."""
    if key is None:
        return NO_KEY
    text = id.encode()
    if key == text:
        return "the id"
    if key == b'"%s"' % text:
        return "the id as JSON"
    if len(key) in (4, 8) and str(int.from_bytes(key, signed=True)) == id:
        return f"the id in {len(key)} bytes"
    return ANOTHER_KEY


class Trait(NamedTuple):
    """What nearly all records of a topic have in common: the form of their keys, and the hash that fits."""

    key: str
    hash: str


class _Sample(NamedTuple):
    form: str
    fits: frozenset[str]  # the hashes by which the key belongs to the partition where the record is

    def has(self, trait: Trait) -> bool:
        return self.form == trait.key and trait.hash in self.fits


@dataclass(slots=True)
class _Samples:
    """The samples of one topic: the newest of each of the last WINDOW ids."""

    partitions: int
    samples: dict[str, _Sample] = field(default_factory=dict)
    trait: Trait | None = None
    has_odd: bool = False  # ever: one that does not have the trait

    def add(self, id: str, sample: _Sample) -> None:
        self.samples.pop(id, None)
        self.samples[id] = sample
        if len(self.samples) > WINDOW:
            del self.samples[next(iter(self.samples))]
        self.has_odd = self.has_odd or (self.trait is not None and not sample.has(self.trait))

    def judge(self) -> Trait | None:
        if len(self.samples) < WINDOW:
            return None
        before = self.trait or Trait("", "")
        forms = Counter(sample.form for sample in self.samples.values())
        hashes = Counter(hash for sample in self.samples.values() for hash in sample.fits)
        self.trait = Trait(_agreed(forms, before.key) or MIXED_KEYS, _agreed(hashes, before.hash) or NEITHER)
        self.has_odd = self.has_odd or not all(sample.has(self.trait) for sample in self.samples.values())
        return self.trait


def _agreed(votes: Counter[str], before: str) -> str:
    if votes[before] >= MOST:
        return before
    return next((value for value, count in votes.most_common(1) if count >= NEARLY_ALL), "")


class Keys:
    """Finds the input topics whose records do not lie where those of their siblings do (rule 8).

    With two partitions a wrong hash fits every second key by chance, so nothing is said before WINDOW different ids
    were seen; with one partition there is nothing to be told, and no harm.
    """

    def __init__(self) -> None:
        self._topics: dict[str, _Samples] = {}

    def sample(self, topic: str, partition: int, partitions: int, key: bytes | None, id: str) -> None:
        """One record of a topic that has so many partitions."""
        if partitions < 2:
            return
        known = self._topics.get(topic)
        if known is None or known.partitions != partitions:
            known = self._topics[topic] = _Samples(partitions)
        fits = set()
        if key is not None:
            fits = {name for name, of in ((MURMUR2, murmur2), (CRC32, crc32)) if of(key, partitions) == partition}
        known.add(id, _Sample(form_of(key, id), frozenset(fits)))

    def is_judged(self, topic: str) -> bool:
        return topic in self._topics and self._topics[topic].trait is not None

    def are_all_alike(self, topics: Sequence[str]) -> bool:
        """`are_alike`, and no record was ever seen that lies elsewhere. A few are no mismatch, but they are there."""
        return self.are_alike(topics) and not any(self._topics[topic].has_odd for topic in topics)

    def are_alike(self, topics: Iterable[str]) -> bool:
        """Whether it is known that these topics have nearly each id in the same partition number."""
        found = [self._topics.get(topic) for topic in topics]
        if len({(each.partitions, each.trait) if each else None for each in found}) != 1:
            return False
        trait = found[0].trait if found[0] else None
        return trait is not None and trait.key not in _WRONG_KEYS and trait.hash != NEITHER

    def judge(self) -> dict[str, str]:
        """Take the samples into account; for each topic that does not fit, why not."""
        judged = {topic: trait for topic, known in self._topics.items() if (trait := known.judge())}
        found = {}
        for topic, trait in judged.items():
            equals = [each for each in judged if self._topics[each].partitions == self._topics[topic].partitions]
            model = min(equals, key=lambda each: _preference(judged[each]))
            if trait.key in _WRONG_KEYS:
                found[topic] = f"the key of its records is {trait.key}"
            elif trait != judged[model]:
                found[topic] = f"{_described(trait)}, but in {model}: {_described(judged[model])}"
        return found


def _preference(trait: Trait) -> tuple[bool, bool, bool]:
    """Whose siblings are to follow it: what this worker does itself, then anything that can be told."""
    return trait.key in _WRONG_KEYS, trait.hash != MURMUR2, trait.hash == NEITHER


def _described(trait: Trait) -> str:
    return f"the key is {trait.key}, hashed with {trait.hash}"
