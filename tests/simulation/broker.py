"""A model of Kafka's broker: logs, transactions and one consumer group, as far as a worker can tell.

No client, no threads, no clock: time (seconds) passes when `tick` is called. What was measured on a real broker
(docs/measured.md) is modelled as it was measured; the rest follows Kafka's classic group and transaction protocols.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from confluent_kafka import KafkaError

from models import map_topic
from utils.joining.messages import Headers
from utils.joining.offsets import OffsetMap

Partition = tuple[str, int]
SESSION = 10.0  # seconds without a heartbeat after which a member is expelled
MAX_POLL = 300.0  # seconds without a poll after which a client leaves; also how long a rebalance waits for members
MAPS = map_topic("name")  # of maps that do not fit into a commit
METADATA_LIMIT = 4095  # characters (measured)


class Committed(NamedTuple):
    offset: int
    metadata: str


@dataclass(slots=True, eq=False)
class Transaction:
    """`of` is its transactional id. Until it is decided whether it is `committed`, its records hold readers up."""

    of: str
    began: float
    timeout: float
    committed: bool | None = None
    logs: list["Log"] = field(default_factory=list)
    records: list[tuple[Partition, "Entry"]] = field(default_factory=list)
    offsets: dict[Partition, Committed] = field(default_factory=dict)
    written: dict[Partition, int] = field(default_factory=dict)  # when its offsets came into the group's log


@dataclass(slots=True, eq=False)
class Entry:
    """A record, or with `marker` the end of a transaction, which takes an offset too."""

    offset: int
    key: bytes | None
    value: bytes | None
    timestamp_ms: int
    transaction: Transaction | None = None
    marker: bool = False
    since: float | None = None  # when readers could come to it
    sent: float = 0.0  # when it came into the log
    headers: Headers | None = None
    unreadable: bool = False  # the client cannot read the name of a header

    @property
    def visible(self) -> bool:
        return not self.marker and (self.transaction is None or self.transaction.committed is True)


class Log:
    """One partition. An entry is None where compaction or retention has removed it."""

    def __init__(self) -> None:
        self.entries: list[Entry | None] = []
        self.start = 0
        self._open: dict[Transaction, int] = {}
        self._noted = 0

    @property
    def end(self) -> int:
        return len(self.entries)

    @property
    def stable_end(self) -> int:
        """The end for a reader with read_committed: where the first open transaction began."""
        return min(self._open.values(), default=self.end)

    def append(
        self,
        key: bytes | None,
        value: bytes | None,
        timestamp_ms: int,
        now: float,
        transaction: Transaction | None = None,
        headers: Headers | None = None,
    ) -> Entry:
        entry = Entry(self.end, key, value, timestamp_ms, transaction, headers=headers, sent=now)
        if transaction and transaction not in self._open:
            self._open[transaction] = self.end
            transaction.logs.append(self)
        self.entries.append(entry)
        self._note_stable(now)
        return entry

    def mark(self, transaction: Transaction, now: float) -> None:
        """The end of a transaction."""
        del self._open[transaction]
        self.entries.append(Entry(self.end, None, None, 0, transaction, marker=True))
        self._note_stable(now)

    def _note_stable(self, now: float) -> None:
        stable_end = self.stable_end
        for entry in self.entries[self._noted : stable_end]:
            if entry:
                entry.since = now
        self._noted = stable_end

    def read(self, position: int, limit: int, *, committed_only: bool = True) -> tuple[list[Entry], int]:
        """The next visible entries, and the position behind them and behind the markers that were passed."""
        entries: list[Entry] = []
        end = self.stable_end if committed_only else self.end
        passed = position
        for entry in self.entries[position:end]:
            visible = entry is not None and (entry.visible if committed_only else not entry.marker)
            if entry and visible:
                if len(entries) == limit:
                    break
                entries.append(entry)
            if entry and (visible or entry.marker):
                passed = entry.offset + 1
        return entries, passed

    def truncate(self, start: int) -> list[Entry]:
        """Retention: drops what is below; returns what was there."""
        dropped = [entry for entry in self.entries[self.start : start] if entry]
        self.entries[self.start : start] = [None] * (start - self.start)
        self.start = start
        return dropped

    def remove(self, offset: int) -> None:
        """Compaction: the record leaves, the others keep their offsets."""
        self.entries[offset] = None

    def compact(self) -> None:
        """Of the decided records of each key only the last committed one stays, and not even that where it deletes.

        What is aborted goes; the last record of a log never does.
        """
        last = {entry.key: entry for entry in self.entries[: self.stable_end] if entry and entry.visible}
        for entry in self.entries[: min(self.stable_end, self.end - 1)]:
            if entry and not entry.marker and (last.get(entry.key) is not entry or entry.value is None):
                self.entries[entry.offset] = None

    def waiting(self) -> Iterator[Entry]:
        return (entry for entry in self.entries if entry and entry.visible)


@dataclass(slots=True, eq=False)
class Topic:
    id: str
    logs: list[Log]


@dataclass(slots=True, eq=False)
class Member:
    """Of the consumer group. `instance` is set for a static member."""

    id: str
    instance: str
    topics: tuple[str, ...]
    polled: float
    joined: bool = False
    generation: int = -1
    assignment: list[Partition] = field(default_factory=list)
    silent_since: float | None = None


class Watcher(Protocol):
    """Who is told of all that becomes durable."""

    def on_record(self, at: Partition, entry: Entry) -> None:
        """A record stands in the log; where it is transactional, perhaps for nothing."""

    def on_visible(self, at: Partition, entry: Entry) -> None:
        """A record can be seen by readers."""

    def on_commit(self, at: Partition, committed: Committed) -> None:
        """The group's offset of a partition has changed."""

    def on_unfenced(self) -> None:
        """A plain commit without a member comes, which an empty group accepts of anybody, late as it may be."""


class Group:
    """The coordinator of the consumer group: classic protocol, eager, range assignment."""

    def __init__(self, broker: "Broker") -> None:
        self._broker = broker
        self.members: dict[str, Member] = {}
        self.generation = 0
        self.rebalancing_since: float | None = None
        self.offsets: dict[Partition, Committed] = {}
        self.pending: dict[Partition, list[Transaction]] = {}
        self.is_known = False  # to the broker: somebody has joined it, or committed
        self._records = 0  # in its log
        self._written: dict[Partition, int] = {}  # which of them is the commit that counts
        self._names = 0

    @property
    def assignment(self) -> tuple[int, int]:
        """Another one after each rebalance, and when a static member has taken a place."""
        return self.generation, self._names

    # ------------------------------------------------------------------ membership

    def join(self, topics: Iterable[str], client: str, instance: str, now: float) -> Member:
        """A new member that has subscribed to these topics. `client`: its id begins so, unless it is a static one.

        That takes the place of its predecessor, without a rebalance, whatever it has subscribed to (measured).
        """
        self._names += 1
        self.is_known = True
        member = Member(f"{instance or client}-{self._names}", instance, tuple(topics), now)
        predecessor = next((each for each in self.members.values() if instance and each.instance == instance), None)
        if predecessor:
            del self.members[predecessor.id]
            self.members[member.id] = member
            if self.rebalancing_since is None:
                member.generation, member.assignment, member.joined = self.generation, predecessor.assignment, True
            else:
                self.rejoin(member, now)
        else:
            self.members[member.id] = member
            self.rebalance(now)
            self.rejoin(member, now)
        return member

    def rejoin(self, member: Member, now: float) -> None:
        member.joined = True
        self._complete(now)

    def leave(self, member: Member, now: float) -> None:
        if self.members.pop(member.id, None):
            self.rebalance(now)
            self._complete(now)

    def rebalance(self, now: float) -> None:
        if self.rebalancing_since is None:
            self.rebalancing_since = now
            for member in self.members.values():
                member.joined = False

    def _complete(self, now: float) -> None:
        """A new generation, once all members have joined."""
        if self.rebalancing_since is not None and all(member.joined for member in self.members.values()):
            self.rebalancing_since = None
            self.generation += 1
            order = sorted(self.members.values(), key=lambda member: member.id)
            for member in order:
                member.generation, member.assignment, member.polled = self.generation, [], now
            named = dict.fromkeys(topic for member in order for topic in member.topics)
            for topic in (each for each in named if each in self._broker.topics):
                subscribed = [member for member in order if topic in member.topics]
                _assign_range(subscribed, topic, len(self._broker.topics[topic].logs))

    def tick(self, now: float) -> None:
        for member in list(self.members.values()):
            silent = member.silent_since is not None and now - member.silent_since >= SESSION
            since = self.rebalancing_since
            late = since is not None and not member.joined and now - since >= MAX_POLL
            if silent or late or (member.silent_since is None and now - member.polled > MAX_POLL):
                self.leave(member, now)

    # ------------------------------------------------------------------ offsets

    def refusal(self, member_id: str, instance: str, generation: int, *, in_transaction: bool = False) -> int | None:
        """Why offsets of this member are refused: an error code. As the broker's `validateOffsetCommit`, in its order.

        Without a generation an empty group takes them of anybody, and in a transaction any group does.
        """
        if generation < 0 and not self.members:
            return None
        if not self.is_known:
            return KafkaError.ILLEGAL_GENERATION
        if generation < 0 and not member_id and not instance:
            return None if in_transaction else KafkaError.UNKNOWN_MEMBER_ID
        of_instance = next((each.id for each in self.members.values() if instance and each.instance == instance), None)
        if of_instance is not None and of_instance != member_id:
            return KafkaError.FENCED_INSTANCE_ID
        if member_id not in self.members or (instance and of_instance is None):
            return KafkaError.UNKNOWN_MEMBER_ID
        return KafkaError.ILLEGAL_GENERATION if generation != self.generation else None

    def record(self) -> int:
        """Something comes into its log; where."""
        self._records += 1
        return self._records

    def commit(self, at: Partition, committed: Committed, written: int = 0) -> int | None:
        """Accepted for every partition, owned or not (measured); None, or the error code.

        `written`: when it was, of a transaction that ends now. A commit that came later than that stays (measured).
        """
        if self._broker.is_too_long(committed):
            return KafkaError.OFFSET_METADATA_TOO_LARGE
        self.is_known = True
        written = written or self.record()
        if written < self._written.get(at, 0):
            return None
        self.offsets[at], self._written[at] = committed, written
        self._broker.watcher.on_commit(at, committed)
        return None

    def forget(self, topic: str) -> None:
        """It is deleted."""
        self.offsets = {at: committed for at, committed in self.offsets.items() if at[0] != topic}
        self.pending = {at: pending for at, pending in self.pending.items() if at[0] != topic}


def _assign_range(order: list[Member], topic: str, partitions: int) -> None:
    each, more = divmod(partitions, len(order))
    first = 0
    for index, member in enumerate(order):
        count = each + (index < more)
        member.assignment += [(topic, partition) for partition in range(first, first + count)]
        first += count


class Broker:
    """Topics, a group that reads some of them, and the transaction coordinator."""

    def __init__(
        self,
        partitions: dict[str, int],
        watcher: Watcher,
        longest_map: int = METADATA_LIMIT,
        most_in_commit: float = float("inf"),
    ) -> None:
        """`longest_map`: characters that are taken of a map; `most_in_commit`: of all maps in a commit.

        A reference to one is longer than any in the model: it does not count.
        """
        self._longest_map = longest_map
        self._most_in_commit = most_in_commit
        self._ids = 0
        self.now = 0.0
        self.watcher = watcher
        self.topics: dict[str, Topic] = {}
        self.group = Group(self)
        for name, count in partitions.items():
            self.create(name, count)
        self._epochs: dict[str, int] = {}
        self._open: dict[str, Transaction] = {}
        self._late: list[tuple[float, Transaction]] = []
        self.changes = 0  # goes up with all that happens but commits: of those `Oracle.changes` tells

    def create(self, name: str, partitions: int) -> None:
        """A topic, or another one in the place of one of that name, whose offsets go with it."""
        self._ids += 1
        self.group.forget(name)
        self.topics[name] = Topic(f"topic-{self._ids}", [Log() for _ in range(partitions)])

    def is_too_long(self, committed: Committed) -> bool:
        is_map = OffsetMap.parse(committed.metadata) is not None
        return len(committed.metadata) > (self._longest_map if is_map else METADATA_LIMIT)

    def is_too_large(self, offsets: dict[Partition, Committed]) -> bool:
        """For one batch of the group's own topic. The broker answers UNKNOWN (measured)."""
        maps = [each.metadata for each in offsets.values() if OffsetMap.parse(each.metadata)]
        return sum(map(len, maps)) > self._most_in_commit

    def log(self, at: Partition) -> Log:
        return self.topics[at[0]].logs[at[1]]

    def tick(self, now: float) -> None:
        self.now = now
        self.group.tick(now)
        for at, transaction in [late for late in self._late if late[0] <= now]:
            self._late.remove((at, transaction))
            if transaction.committed is None:
                self.end(transaction.of, committed=True)
        for transaction in list(self._open.values()):
            if now - transaction.began >= transaction.timeout:
                self.end(transaction.of, committed=False)
                self._epochs[transaction.of] += 1  # its producer is fenced

    @property
    def is_waiting(self) -> bool:
        """Whether something will happen by itself when time passes."""
        group = self.group
        missed = any(member.silent_since is not None for member in group.members.values())
        return bool(self._open) or group.rebalancing_since is not None or missed

    @property
    def open_transactions(self) -> list[Transaction]:
        return list(self._open.values())

    # ------------------------------------------------------------------ producers

    def append(
        self,
        at: Partition,
        key: bytes | None,
        value: bytes | None,
        timestamp_ms: int,
        transaction: Transaction | None = None,
        headers: Headers | None = None,
    ) -> Entry:
        self.changes += at[0] != MAPS
        entry = self.log(at).append(key, value, timestamp_ms, self.now, transaction, headers)
        self.watcher.on_record(at, entry)
        if transaction:
            transaction.records.append((at, entry))
        else:
            self.watcher.on_visible(at, entry)
        return entry

    def init_transactions(self, transactional_id: str) -> int:
        """The epoch of the new producer. An older one is fenced and its transaction aborted."""
        if transactional_id in self._open:
            self.end(transactional_id, committed=False)
        self._epochs[transactional_id] = self._epochs.get(transactional_id, -1) + 1
        return self._epochs[transactional_id]

    def is_fenced(self, transactional_id: str, epoch: int) -> bool:
        return self._epochs[transactional_id] != epoch

    def transaction(self, transactional_id: str, timeout: float) -> Transaction:
        """The open transaction of this id; it is opened where there is none."""
        if transactional_id not in self._open:
            self._open[transactional_id] = Transaction(transactional_id, self.now, timeout)
        return self._open[transactional_id]

    def add_offsets(
        self, transaction: Transaction, member: tuple[str, str, int], offsets: dict[Partition, Committed]
    ) -> int | None:
        """Offsets into a transaction; None, or the error code. If one is too long, the others are in (measured)."""
        refusal = self.group.refusal(*member, in_transaction=True)
        if refusal is not None:
            return refusal
        if self.is_too_large(offsets):
            return int(KafkaError.UNKNOWN)
        taken = {at: each for at, each in offsets.items() if not self.is_too_long(each)}
        self.group.is_known = True
        for at in taken:
            self.group.pending.setdefault(at, []).append(transaction)
            transaction.written[at] = self.group.record()
        transaction.offsets |= taken
        return None if len(taken) == len(offsets) else KafkaError.OFFSET_METADATA_TOO_LARGE

    def end(self, transactional_id: str, *, committed: bool) -> None:
        """Commit or abort: markers in every log, then the offsets."""
        transaction = self._open.pop(transactional_id, None)
        if transaction is None:
            return
        self.changes += not committed or any(at[0] != MAPS for at, _ in transaction.records)
        transaction.committed = committed
        for log in transaction.logs:
            log.mark(transaction, self.now)
        for at, pending in self.group.pending.items():
            self.group.pending[at] = [each for each in pending if each is not transaction]
        if committed:
            for at, entry in transaction.records:
                self.watcher.on_visible(at, entry)
            for at, offset in transaction.offsets.items():
                self.group.commit(at, offset, transaction.written[at])

    def end_later(self, transactional_id: str, seconds: float) -> None:
        """A request to commit that is on its way for so long."""
        if seconds == 0:
            self.end(transactional_id, committed=True)
        elif transactional_id in self._open:
            self._late.append((self.now + seconds, self._open[transactional_id]))

    def commit(
        self, member: tuple[str, str, int], offsets: dict[Partition, Committed]
    ) -> tuple[int | None, dict[Partition, int]]:
        """A plain commit: the error code of the whole, and those of single partitions."""
        refusal = self.group.refusal(*member)
        if refusal is not None:
            return refusal, {}
        if self.is_too_large(offsets):
            return int(KafkaError.UNKNOWN), {}
        if not member[0]:
            self.watcher.on_unfenced()
        answers = {at: self.group.commit(at, committed) for at, committed in offsets.items()}
        return None, {at: code for at, code in answers.items() if code is not None}
