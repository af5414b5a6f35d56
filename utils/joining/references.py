"""The short reference that a commit carries in place of a map too long for it, and the keys under which such maps lie.

Pure: no Kafka, no clock, no logging. The maps are records of a compacted topic. The key of each is
`topic:partition:writer:slot:part`, and none may ever be written over, or deleted, while a commit that names it may
count:

- `writer` is a new name with each assignment. So who has lost its partitions and does not know it yet writes under keys
  of its own, and what it deletes was out of use when it still owned them.
- `slot` is one that neither the last confirmed commit nor any after it names: how those ended is not known.
- Keys of others are deleted after a commit of ours was confirmed, which took the place of theirs. Until that is done,
  our commits name those keys (`before`): after a crash the next owner does it.
- Our own are deleted with the commit after the one that needs them no more. No commit names them until then: where the
  assignment ends first, they stay. (To name them in a commit that needs no reference would take room in each map.)
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple

from utils.joining.offsets import CommitPoint, JoinedWith, MapHead, OffsetMap, checksum
from utils.topic_ids import identity

MAX_RECORD = 500_000
"""Characters of a map that go into one record at most. Those of transactions share a batch."""
_BESIDE = 600  # bytes of a record beside its map: the key, which names a topic, and the batch; rounded up

_VERSION = "stored-1"

ADOPTED = "adopted"
"""In the commits that `adopt` has made, so that a second run does not go back once more."""
Partition = tuple[str, int]


class StoredRecord(NamedTuple):
    key: bytes
    value: bytes | None  # None deletes


class Lot(NamedTuple):
    """The keys of one writer for one partition: this many slots, of this many records at most."""

    writer: str
    slots: int
    parts: int

    def keys(self, topic: str, partition: int) -> list[bytes]:
        return [
            key(topic, partition, self.writer, slot, part) for slot in range(self.slots) for part in range(self.parts)
        ]

    @staticmethod
    def parse(text: str) -> "Lot":
        """Raises ValueError."""
        writer, slots, parts = text.split(".")
        return Lot(writer, int(slots), int(parts))


def key(topic: str, partition: int, writer: str, slot: int, part: int) -> bytes:
    return f"{topic}:{partition}:{writer}:{slot}:{part}".encode()


@dataclass(frozen=True, slots=True)
class Reference:
    """Where the map of a commit lies. Identity and base are those of the map."""

    topic_id: str
    joined_with: str
    base: int
    lot: Lot
    slot: int
    before: Lot | None  # out of use as soon as this commit is the durable one
    since: int  # no record of the map lies below this offset
    digests: tuple[str, ...]  # of each record

    def encode(self) -> str:
        lots = ":".join(".".join(map(str, lot)) if lot else "" for lot in (self.lot, self.before))
        head = f"{_VERSION}:{self.topic_id}:{self.joined_with}:{self.base}"
        body = f"{head}:{lots}:{self.slot}:{self.since}:{'.'.join(self.digests)}"
        return f"{body}:{checksum(body)}"

    @staticmethod
    def parse(text: str | None) -> "Reference | None":
        """A reference of ours; None for any other text. Never raises."""
        body, _, found = (text or "").rstrip("\0").rpartition(":")
        fields = body.split(":")
        if found != checksum(body) or len(fields) != 9 or fields[0] != _VERSION:
            return None
        try:
            lot, before = Lot.parse(fields[4]), Lot.parse(fields[5]) if fields[5] else None
            base, slot, since = int(fields[3]), int(fields[6]), int(fields[7])
        except ValueError:
            return None
        return Reference(identity(fields[1]), fields[2], base, lot, slot, before, since, tuple(fields[8].split(".")))

    def records(self, topic: str, partition: int) -> list[tuple[bytes, str]]:
        """Key and digest of each record."""
        return [
            (key(topic, partition, self.lot.writer, self.slot, part), each) for part, each in enumerate(self.digests)
        ]


def was_brought(head: OffsetMap | MapHead | Reference | None, topic_id: str, cluster: str) -> bool:
    """Whether this is of a commit that was made on another cluster, for a topic there: a tool has brought it here.

    Such a tool translates the offset, and copies the map as it is.
    """
    if head is None or (topic_id and head.topic_id == topic_id) or not cluster:
        return False
    return JoinedWith.parse(head.joined_with).cluster not in {"", cluster}


def digest(value: bytes) -> str:
    """Tells a record from any other that was ever written under its key."""
    return hashlib.blake2b(value, digest_size=12).hexdigest()


def characters_of(record: int) -> int:
    """How much of a map goes into one record that may have so many bytes."""
    return min(MAX_RECORD, max(record - _BESIDE, record // 3))


class MapSlots:
    """Which keys are in use, which may be written, and which are to be deleted. Of one assignment after another."""

    def __init__(self, max_record: int = MAX_RECORD) -> None:
        self._max_record = max_record
        self._writer = ""
        self._taken: set[int] = set()  # slots that a commit names which is, or may be, the durable one
        self._confirmed: int | None = None  # of the last commit that is known to have been it
        self._on_its_way = False  # a commit of which `put` has made the points
        self._slot: int | None = None  # of that commit
        self._stored: set[Partition] = set()  # in that commit
        self._ours: dict[Partition, Lot] = {}
        self._before: dict[Partition, Lot] = {}  # of others, named by the commits that we began with
        self._out_of_use: list[StoredRecord] = []

    def begin(self, writer: str, found: Mapping[Partition, Reference]) -> None:
        """A new assignment, with the references in its commits. `writer`: a name that was never used before."""
        self._writer = writer
        self._on_its_way, self._taken, self._slot, self._stored = False, set(), None, set()
        self._confirmed = None
        self._ours = {}
        self._before = {at: reference.lot for at, reference in found.items()}
        self._out_of_use = []
        for at, reference in found.items():
            if reference.before:
                self._delete(at, reference.before)

    def put(
        self, points: Sequence[CommitPoint], limit: int, since: int
    ) -> tuple[list[CommitPoint], list[StoredRecord]]:
        """The points to commit, each map longer than `limit` by reference; and the records to be written before.

        `since`: an offset of the topic that no record written from now on lies below.
        """
        records, self._out_of_use = self._out_of_use, []
        self._on_its_way, self._slot, self._stored, fitting = True, None, set(), []
        for point in points:
            if len(point.metadata) > limit:
                reference, parts = self._store(point, since)
                point = point._replace(metadata=reference.encode())
                records += parts
            fitting.append(point)
        return fitting, records

    def ended(self, confirmed: bool) -> None:
        """How the commit of the points that `put` returned last ended, if that is not known yet.

        Not confirmed: it is perhaps the durable one all the same, or becomes so.
        """
        if confirmed and self._on_its_way:
            self._taken = set() if self._slot is None else {self._slot}
            self._confirmed = self._slot
            for at, lot in self._before.items():
                self._delete(at, lot)
            self._before = {}
            for at in self._ours.keys() - self._stored:
                self._delete(at, self._ours.pop(at))
        self._on_its_way = False

    @property
    def unconfirmed(self) -> int:
        """How many commits with stored maps there were since the last one that was confirmed."""
        return len(self._taken - {self._confirmed})

    def _store(self, point: CommitPoint, since: int) -> tuple[Reference, list[StoredRecord]]:
        if self._slot is None:
            self._slot = next(slot for slot in count() if slot not in self._taken)
            self._taken.add(self._slot)
        at = point.topic, point.partition
        self._stored.add(at)
        parts = list(_split(point.metadata.encode(), self._max_record))
        known = self._ours.get(at, Lot(self._writer, 0, 0))
        lot = self._ours[at] = Lot(self._writer, max(known.slots, self._slot + 1), max(known.parts, len(parts)))
        _, topic_id, joined_with, base, _ = point.metadata.split(":", 4)
        digests = tuple(map(digest, parts))
        reference = Reference(topic_id, joined_with, int(base), lot, self._slot, self._before.get(at), since, digests)
        keys = (key for key, _ in reference.records(*at))
        return reference, [StoredRecord(*each) for each in zip(keys, parts, strict=True)]

    def _delete(self, at: Partition, lot: Lot) -> None:
        self._out_of_use += [StoredRecord(key, None) for key in lot.keys(*at)]


def _split(text: bytes, size: int) -> Iterator[bytes]:
    return (text[at : at + size] for at in range(0, len(text), size))
