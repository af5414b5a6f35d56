"""The oracle: a ledger of every fragment sent, held against every result read and every commit made.

It knows neither Kafka nor the worker, but for the map in a commit. Whoever feeds says `sent()`, whoever reads the
outputs (read_committed, from the beginning) says `seen()`; then `judge()` tells what was lost, doubled or half.

A fragment says of itself where it comes from (`fragment_value`), so that a result shows what it was built of.
"""

import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from utils.joining.offsets import OffsetMap
from utils.joining.states import UNFINISHED

Partition = tuple[str, int]
EXAMPLES = 10

_decode: Callable[[bytes], Any] = msgspec.json.Decoder().decode


def fragment_value(topic: str, id: str, version: int = 0, pad: int = 0) -> bytes:
    """One topic's message of an id: its content names both, and which of several it is; `pad` makes it longer."""
    padding = f',"pad {topic}":"{"x" * pad}"' if pad else ""
    content = f'{{"{topic}":"{topic}/{id}/{version}"{padding}}}'
    return f'{{"id":{json.dumps(id)},"source":"{topic}","content":{content}}}'.encode()


@dataclass(frozen=True, slots=True)
class Commit:
    """What the group has committed of a partition. Without a map: `end` is `offset`, nothing is waiting."""

    offset: int
    waiting: frozenset[int]
    end: int
    metadata: str

    @classmethod
    def read(cls, offset: int, metadata: str | None, topic_id: str) -> "Commit":
        loaded = OffsetMap.decode(metadata, topic_id, offset)
        states = bytes(loaded.states) if loaded else b""
        waiting = frozenset(offset + index for index, state in enumerate(states) if state == UNFINISHED)
        return cls(offset, waiting, offset + len(states), metadata or "")

    def is_finished(self, offset: int) -> bool:
        return offset < self.offset or (offset < self.end and offset not in self.waiting)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of everything. `str()` of it fits in an assertion."""

    complete: int
    """Ids of which every input topic has a fragment."""
    results: int
    lost: list[str]
    """Complete ids without a result."""
    twice: list[str]
    """Ids with more results than one."""
    half: list[str]
    """Results that lack a fragment, or hold one that is not of their id, as text."""
    overtaken: list[str]
    """Offsets that a commit calls finished, and are not, as text."""

    def __str__(self) -> str:
        faults = {"lost": self.lost, "twice": self.twice, "half": self.half, "overtaken": self.overtaken}
        counts = ", ".join(f"{len(found)} {name}" for name, found in faults.items())
        examples = [f"{name}: {found[:EXAMPLES]}" for name, found in faults.items() if found]
        return "\n".join([f"{self.complete} complete ids, {self.results} results: {counts}", *examples])

    def require(self, *, once: bool = False) -> None:
        """At least once, or exactly once where asked for; nothing half and nothing overtaken in either case."""
        faults = self.lost or self.half or self.overtaken or (once and self.twice)
        assert not faults, str(self)


@dataclass
class Oracle:
    """The ledger, and what has been seen since."""

    topics_input: tuple[str, ...]
    lists: tuple[tuple[str, ...], ...] = ()
    """Those of them of which a result may be made, one list for each row that was in force. Empty: of all."""
    _suspects: list[tuple[str, bytes | None]] = field(default_factory=list)
    """Results that were not whole when they were read. A ledger is written as the broker acknowledges what was sent,
    and a result may be read before that: so they are looked at again when it comes to the verdict."""

    def __post_init__(self) -> None:
        self._offsets: dict[Partition, dict[int, str | None]] = {}
        self._known_at: dict[str, tuple[float, float]] = {}  # when a record of an id was first acknowledged, and last
        self._times_sent: dict[str, Counter[str]] = {topic: Counter() for topic in self.topics_input}
        self._newest: dict[tuple[str, str], int] = {}  # of ids sent more than once on a topic
        self._results: Counter[str] = Counter()
        self._of_results = {frozenset(topics) for topics in self.lists or (self.topics_input,)}
        self.made_of: Counter[frozenset[str]] = Counter()
        """How many whole results there are, by their topics."""
        self.unplaced: dict[str, set[str]] = defaultdict(set)
        """By topic, ids of which nobody knows where they are, or whether they are there."""
        self.destroyed: set[str] = set()
        """Ids that may have no result: a fragment was in a topic that has been deleted."""

    # ------------------------------------------------------------------ the ledger

    def sent(self, topic: str, partition: int, offset: int | None, id: str | None) -> None:
        """A record is in the log. `id` None: one that is no valid message.

        `offset` None: it is there, but nobody knows where: so Kafka answers a producer that has sent it twice. Or it is
        not there at all: the client tells that, too, of what it takes for stored (librdkafka, issue 4134).
        """
        if offset is not None:
            self._offsets.setdefault((topic, partition), {})[offset] = id
        elif id is not None:
            self.unplaced[topic].add(id)
        if id is not None:
            now = time.monotonic()
            self._known_at[id] = self._known_at.get(id, (now, now))[0], now
            self._times_sent[topic][id] += 1
            if self._times_sent[topic][id] > 1 and offset is not None:
                self._newest[topic, id] = max(offset, self._newest.get((topic, id), -1))

    def forget(self, topic: str) -> None:
        """The topic has been deleted, and what was in it."""
        self._offsets = {partition: sent for partition, sent in self._offsets.items() if partition[0] != topic}
        self._times_sent[topic].clear()

    def destroy(self, topic: str) -> None:
        """The same, in the middle of a feed: what was sent there has had its result, or may never have one."""
        self.destroyed |= self._times_sent[topic].keys() - self._results.keys()
        self._offsets = {partition: sent for partition, sent in self._offsets.items() if partition[0] != topic}

    def times_sent(self, topic: str, id: str) -> int:
        return self._times_sent[topic][id]

    def complete(self) -> set[str]:
        """The ids of which every input topic has been sent a fragment."""
        first, *others = self._times_sent.values()
        return set(first).intersection(*others)

    # ------------------------------------------------------------------ what came out

    def seen(self, key: bytes | None, value: bytes | None) -> None:
        """A result has been read. It must be the fragments of its id, one of each input topic, and nothing else."""
        id = (key or b"").decode()
        self._results[id] += 1
        if topics := self._whole_of(id, value):
            self.made_of[topics] += 1
        else:
            self._suspects.append((id, value))

    def _whole_of(self, id: str, value: bytes | None) -> frozenset[str]:
        """The topics of whose fragments of this id the result is made; none where it is not whole."""
        message = _decode(value or b"null")
        content = message.get("content") if isinstance(message, dict) else None
        if not isinstance(content, dict) or str(message.get("id")) != id:
            return frozenset()
        named = {key: value for key, value in content.items() if not key.startswith("pad ")}
        topics = frozenset(named)
        is_whole = topics in self._of_results and all(
            value in {f"{topic}/{id}/{version}" for version in range(self._times_sent[topic][id])}
            for topic, value in named.items()
        )
        return topics if is_whole else frozenset()

    def forget_results(self) -> None:
        """The outputs are going to be read once more from their beginning."""
        self._results.clear()
        self._suspects.clear()

    @property
    def results(self) -> Mapping[str, int]:
        """How many results each id has."""
        return self._results

    def missing(self) -> set[str]:
        """The complete ids that have no result yet."""
        return {id for id in self.complete() - self.destroyed if id not in self._results}

    # ------------------------------------------------------------------ the verdict

    def judge(self, commits: Mapping[Partition, Commit] | None = None, given_up: Collection[str] = ()) -> Verdict:
        """Holds ledger, results and commits against each other.

        The commits must have been read *before* the results that were seen last: a result is safe before its offsets
        are committed, and not the other way round. `given_up`: ids that the worker filtered or evicted.
        """
        given_up = self.destroyed.union(given_up)
        return Verdict(
            complete=len(self.complete()),
            results=self._results.total(),
            lost=[f"{id}, its parts {self._apart(id):.1f} s apart" for id in sorted(self.missing() - set(given_up))],
            twice=sorted(id for id, number in self._results.items() if number > 1),
            half=[f"{id}: {(value or b'')[:300]!r}" for id, value in self._suspects if not self._whole_of(id, value)],
            overtaken=list(self._overtaken(commits or {}, given_up)),
        )

    def _apart(self, id: str) -> float:
        """Seconds between Kafka's answers for its first record and its last: MESSAGE_TIMEOUT may lie between them."""
        first, last = self._known_at[id]
        return last - first

    def _overtaken(self, commits: Mapping[Partition, Commit], given_up: Collection[str]) -> Iterable[str]:
        for partition, commit in commits.items():
            for offset, id in self._offsets.get(partition, {}).items():
                if commit.is_finished(offset) and not self._may_be_finished(partition[0], offset, id, given_up):
                    where = f"{partition[0]}:{partition[1]}:{offset}"
                    yield f"{where} of {id}, committed {commit.offset} with a map up to {commit.end}"

    def _may_be_finished(self, topic: str, offset: int, id: str | None, given_up: Collection[str]) -> bool:
        superseded = id is not None and offset < self._newest.get((topic, id), -1)
        return id is None or id in self._results or id in given_up or superseded
