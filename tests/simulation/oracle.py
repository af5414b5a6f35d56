"""A ledger of every fragment, and its promises checked against it: at every commit, and at the end.

Knows what was sent and what stands in the logs and commits; knows nothing of the worker's own bookkeeping. It reads a
commit as the next owner would: everything below the offset, and what the map calls finished, will never be read again.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.simulation.broker import MAPS, METADATA_LIMIT, Broker, Committed, Entry, Partition
from tests.simulation.planting import copied
from utils.joining.dead_letters import INCOMPLETE, INVALID_MESSAGE, PROCESS_FAILED, Contents, read
from utils.joining.offsets import JoinedWith, OffsetMap, topic_tags
from utils.joining.references import Reference, digest
from utils.joining.states import FINISHED
from utils.metrics import Counters
from utils.topic_ids import is_another

_parse, _parse_reference = copied(OffsetMap.parse), copied(Reference.parse)  # as they were before any mutant

HOUR = 3_600.0  # seconds
A_STEP = 1.1  # seconds: how exactly maps tell an arrival
FORWARDED, FILTERED, TWOFOLD, FAILING, DEADLY = "forwarded", "filtered", "twofold", "failing", "deadly"
HANGING, FLAKY, LATER, SLEEPY, LONG = "hanging", "fails once", "later", "hangs once", "fails for long"
GIVEN_UP = {FAILING, HANGING}


@dataclass(slots=True, eq=False)
class Sent:
    """A fragment in the ledger, or what looks like one. `uid` is in its content, and so in every result made of it."""

    uid: int
    at: Partition
    entry: Entry
    id: str | None
    round: int
    timestamp: float  # of the record, on the model's clock
    excused: bool = False  # deleted, or passed over, from outside before it was done
    by_former_row: bool = False  # it came while the row had other input topics than now

    @property
    def since(self) -> float:
        """When readers could come to it."""
        return float("inf") if self.entry.since is None else self.entry.since

    @property
    def honest(self) -> bool:
        """Whether its timestamp says when readers could come to it."""
        return abs(self.timestamp - self.since) < 0.01


Parts = tuple[int, ...]  # the uids that a result is made of, in the order of the input topics


@dataclass
class Oracle:
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    dead_letters: str
    exactly_once: bool
    message_timeout: float
    slack: float = 0.0
    """Seconds by which the clocks of two workers differ at most. By them a topic that was added is begun."""
    keeps_arrivals: bool = True
    """Maps have room for when what waits arrived, to the second, whatever the timestamps of the records say."""

    rows: list[frozenset[str]] = field(init=False)
    """The input topics as the row has them, and as it had them before."""
    changes: int = 0
    """Goes up with commits that tell more than how long something waits."""
    is_withdrawn: bool = False
    """A worker could not begin by the row, and goes on by the one before, by which a part may be missing."""
    committed_by: dict[Partition, int] = field(default_factory=dict)
    """The number of the row by which the last commit was made."""
    first_by: dict[Partition, int] = field(default_factory=dict)
    """The number of the row by which the first commit was made."""
    broker: Broker = field(init=False)
    trace: Callable[[object], None] = field(default=lambda _: None)
    sent: dict[int, Sent] = field(default_factory=dict)
    at: dict[Partition, dict[int, Sent]] = field(default_factory=dict)
    by_id: dict[str, list[Sent]] = field(default_factory=dict)
    results: dict[Parts, Counter[tuple[str, int]]] = field(default_factory=dict)
    made: dict[int, list[Parts]] = field(default_factory=dict)
    called: set[int] = field(default_factory=set)
    """The uids that process() was called with."""
    calls: dict[str, set[Parts]] = field(default_factory=dict)
    """What it was called with, by what it does with that."""
    called_with: Counter[int] = field(default_factory=Counter)
    """How often, by uid."""
    many_calls: bool = False
    repeats: bool = False
    """A message that fails may be called with other fragments the next time: where its id comes many times."""
    mended: bool = False
    """What has failed for long fails no more."""
    attempts: int = 0
    """That a message has: PROCESS_ATTEMPTS. 0: not looked at."""
    letters: dict[int, Counter[str]] = field(default_factory=dict)
    """By uid: how many dead letters hold the fragment, by reason."""
    groups_given_up: int = 0
    """Dead letters of incomplete groups."""
    groups_failed: int = 0
    """Dead letters of groups for which process() failed."""
    many: int = 2
    """Results of a message that has more than one."""
    of_expelled: set[Parts] = field(default_factory=set)
    """What a worker has joined that was expelled and did not know it yet."""
    finished: dict[Partition, bytes] = field(default_factory=dict)
    skipped: dict[Partition, int] = field(default_factory=dict)
    """Where another tool has told the group to go on reading."""
    problems: list[tuple[str, str]] = field(default_factory=list)
    destroyed: bool = False
    """Offsets or maps were destroyed from outside: what was done may be done again."""
    torn: bool = False
    """A commit was carried out for some of its partitions only: the others may repeat what these have finished."""
    to_be_called: dict[Partition, dict[int, int]] = field(default_factory=dict)
    """After another tool has set offsets back, of one topic: by uid its `_calls` at that time."""
    set_back: bool = False
    """At least once, a late commit was carried out over a newer one."""
    made_again: set[str] = field(default_factory=set)
    """Topics that were deleted and created again."""
    disturbed: bool = False
    """Something has happened after which at-least-once may repeat results."""
    looked_ended: bool = False
    """A process was killed, frozen or expelled, or its start could not be taken out of the commit, as where maps are
    stored. Who ran alone then is accused without guilt: nobody can tell that it ended of something else, or not."""
    slow_output: bool = False
    """A stop and a rebalance may come to their time-out before all results have left."""
    ended_in_a_call: bool = False
    """process() has ended a process."""
    called_in: dict[int, tuple[int, int]] = field(default_factory=dict)
    """By uid: the assignment in which process() was called with it."""
    known: set[int] = field(default_factory=set)
    """The uids that a later commit of that assignment tells: with what they were called, they meet whatever comes."""
    robbed: set[str] = field(default_factory=set)
    """Ids that have lost a fragment before it was done."""
    ran_alone: set[tuple[Partition, int]] = field(default_factory=set)
    """What commits have named as run alone."""

    stood: dict[Partition, set[bytes]] = field(default_factory=dict)
    """All that commits have said of a partition."""
    before_refusal: dict[Partition, set[bytes]] = field(default_factory=dict)
    """That, before one that was carried out for it, and refused for others."""

    def __post_init__(self) -> None:
        self.rows = [frozenset(self.inputs)]

    @property
    def may_repeat(self) -> bool:
        """Whether at-least-once may repeat results."""
        return self.disturbed or self.ended_in_a_call or self.slow_output

    @property
    def may_go_back(self) -> bool:
        """Whether a commit may call unfinished what an earlier one has finished."""
        return self.destroyed or self.set_back

    # ------------------------------------------------------------------ what is told

    def row_is(self, inputs: tuple[str, ...]) -> None:
        """The row has other input topics. What came before may be joined by either."""
        self.inputs = inputs
        self.rows.append(frozenset(inputs))
        self.disturbed = True
        self.to_be_called.clear()  # joined with another topic now, they may wait
        for sent in self.sent.values():
            sent.by_former_row = True

    def is_sent(self, sent: Sent) -> None:
        self.sent[sent.uid] = sent
        self.at.setdefault(sent.at, {})[sent.entry.offset] = sent
        sent.excused = sent.entry.offset < self.skipped.get(sent.at, 0)
        if sent.id is not None:
            self.by_id.setdefault(sent.id, []).append(sent)

    def is_called(self, message: dict[str, object], *, expelled: bool = False) -> str:
        """process() is called with this message, perhaps by an expelled worker; returns what it is to do.

        Such a worker may still have in memory what others have finished since, and join it where its id is used again.
        Exactly once that never becomes visible. At least once nothing fences the results of an expelled worker.
        """
        parts = self._parts(message)
        if parts and expelled:
            self.of_expelled.add(parts)
        elif parts:
            self._check_rounds(parts)
            self.called_in.update(dict.fromkeys(parts, self.broker.group.assignment))
        what = self._what(str(message["id"]), parts or ())
        self._check_order(parts or (), expelled)
        self.called |= set(parts or ()) if what in ENDS else set()
        self.called_with.update(parts or ())
        if parts and what in ENDS:
            self.calls.setdefault(what, set()).add(parts)
        return what

    def _what(self, id: str, parts: Parts) -> str:
        at_first = AT_FIRST.get(id[-1:])
        if at_first == LONG:
            return FORWARDED if self.mended else LONG
        fresh = not any(self.called_with[sent.uid] for sent in self.by_id.get(id, ()))
        return at_first if at_first and fresh else behaviour(id)

    def _check_order(self, parts: Parts, expelled: bool) -> None:
        """Of one topic, an id is called in its order: with none before what came before it has come to its end.

        A message that fails may have come to it, as far as it was called often enough.
        """
        if max(map(len, self.rows)) > 1 or expelled or self.destroyed or not parts or parts[0] not in self.sent:
            return
        ours = self.sent[parts[0]]
        for sent in self.by_id[ours.id or ""]:
            if sent.entry.offset >= ours.entry.offset or sent.at != ours.at or not self._is_there(sent):
                continue
            fails = behaviour(sent.id or "") in GIVEN_UP
            over = self.called_with[sent.uid] >= self.attempts if fails else sent.uid in self.called
            if not over and not self._is_finished(sent) and (sent.at, sent.entry.offset) not in self.ran_alone:
                self._broken("order", f"{self._text(ours)} is called before {self._text(sent)} has come to an end")

    def on_record(self, at: Partition, entry: Entry) -> None:
        if at[0] in self.outputs:
            message = json.loads(entry.value or b"null")
            if self._parts(message) and entry.key != str(message["id"]).encode():
                self._broken("I2", f"the key of {message} is {entry.key!r}")

    def on_visible(self, at: Partition, entry: Entry) -> None:
        if at[0] == self.dead_letters:
            self._on_dead_letter(entry)
        if at[0] not in self.outputs:
            return
        message = json.loads(entry.value or b"null")
        parts = self._uids(message)
        which = at[0], message.get("part", 0)
        self.trace(("result", entry.value))
        if self.exactly_once or parts not in self.of_expelled:
            self._check_rounds(parts)
        if parts not in self.results:
            self.results[parts] = Counter()
            for uid in parts:
                self.made.setdefault(uid, []).append(parts)
        self.results[parts][which] += 1
        if self.exactly_once and not self.destroyed:
            again = [uid for uid in parts if len(self.made[uid]) > 1]
            if self.results[parts][which] > 1 or again:
                self._broken("I1", f"twice in {at[0]}: {message}")

    def _on_dead_letter(self, entry: Entry) -> None:
        letter = read(entry.key, entry.value, entry.headers)
        self.trace(("dead letter", letter))
        if letter is None:
            self._broken("I7", f"no dead letter: {entry}")
            return
        self.groups_given_up += letter.reason == INCOMPLETE
        self.groups_failed += letter.reason == PROCESS_FAILED
        for part in letter.parts:
            sent = self.at.get((part.topic, part.partition), {}).get(part.offset)
            if sent is None or part.value != (sent.entry.value or b""):
                if not self.destroyed:  # else perhaps of a topic that was made again since
                    self._broken("I7", f"a dead letter of what was not sent, or not so: {part}")
                continue
            known = self.letters.setdefault(sent.uid, Counter())
            if self.exactly_once and not self.destroyed and (known or sent.uid in self.made):
                self._broken("I1", f"{self._text(sent)} is in {known}, or in a result, and now in {letter.about}")
            if not self._is_right(letter, sent):
                self._broken("I7", f"{self._text(sent)} is in a dead letter for a wrong reason: {letter.about}")
            known[letter.reason] += 1
        self._check_attempts(letter)

    def _check_attempts(self, letter: Contents) -> None:
        """A message that fails is given up after its attempts, not before. One that hangs beside others is one call."""
        if letter.reason != PROCESS_FAILED or letter.about.get("error.class") == "EndedTheProcess":
            return
        if any(part.topic in self.made_again for part in letter.parts):  # another record may be at its offset now
            return
        sent = [self.at.get((part.topic, part.partition), {}).get(part.offset) for part in letter.parts]
        made = max((self.called_with[each.uid] for each in sent if each), default=self.attempts)
        if made < self.attempts and not (self.many_calls and behaviour(letter.id or "") == HANGING):
            self._broken("rule 9", f"{letter.id} is given up after {made} of {self.attempts} attempts")

    def _is_right(self, letter: Contents, sent: Sent) -> bool:
        """Whether the reason is the true one."""
        if sent.id is None or letter.reason == INVALID_MESSAGE:
            return sent.id is None and letter.reason == INVALID_MESSAGE
        if letter.reason == INCOMPLETE:
            there = {part.topic for part in letter.parts}
            missing = [",".join(sorted(row - there)) for row in self.rows if there < row]
            named = letter.about.get("missing.topics")
            return named in missing and letter.id == sent.id and self._may_be_evicted(sent)
        whole = {part.topic for part in letter.parts} in self.rows
        if letter.about.get("error.class") == "EndedTheProcess":
            right = self._may_have_ended_the_process(letter, sent.id)
        else:
            right = behaviour(sent.id) in GIVEN_UP
        return whole and letter.reason == PROCESS_FAILED and right

    def _may_have_ended_the_process(self, letter: Contents, id: str) -> bool:
        named = any(((part.topic, part.partition), part.offset) in self.ran_alone for part in letter.parts)
        return named and (behaviour(id) == DEADLY or self.looked_ended)

    def _may_be_accused(self, id: str) -> bool:
        """Whether a fragment of this id was run alone, and may have ended the process."""
        named = any((each.at, each.entry.offset) in self.ran_alone for each in self.by_id[id])
        return named and (behaviour(id) == DEADLY or self.looked_ended)

    def _may_be_discarded(self, sent: Sent) -> bool:
        """Whether, with dead letters off, it is right that nothing has become of this fragment."""
        if self.dead_letters:
            return False
        return sent.id is None or self._may_be_evicted(sent) or self._may_be_accused(sent.id)

    def on_commit(self, at: Partition, committed: Committed) -> None:
        if not any(at[0] in row for row in self.rows):
            return
        if not self.broker.group.members:  # by one that was expelled: brokers take it, also over that of a tool
            self.to_be_called.pop(at, None)
        if (found := _parse(self._stored_map(at, committed.metadata))) and found.trying is not None:
            self.ran_alone.add((at, found.trying))
        if found and len(self.rows) > 1 and not self.is_withdrawn:
            self._check_row(at, JoinedWith.parse(found.joined_with).tags)
        finished = self._finished(at, committed)
        if finished is None:
            return
        self._note_known(at, len(finished))
        before = self.finished.get(at, b"")
        self.trace(("committed", name(at), committed.offset, finished[committed.offset :].hex(" ")))
        if len(self.rows) > 1 and at not in self.finished:  # a topic that was added is not read from its beginning
            for offset, sent in self.at.get(at, {}).items():
                old = self.broker.now - min(sent.since, sent.timestamp) >= self.message_timeout - self.slack
                sent.excused |= offset < committed.offset and old
        if finished != before:
            self.changes += 1
            if finished not in self.before_refusal.get(at, ()):
                self._check_commit(at, committed, finished, before)
            self.stood.setdefault(at, set()).add(finished)
            self.finished[at] = finished

    def may_take_back(self, partitions: Iterable[Partition]) -> None:
        """A commit is about to be carried out for some of these, and not for others.

        They may go back to what was: to the last commit that the worker knows to be confirmed.
        """
        for at in partitions:
            self.before_refusal[at] = {b"", *self.stood.get(at, ())}

    def is_taken_back(self, wanted: Mapping[Partition, Committed]) -> bool:
        """Whether these are commits as they were before one that was refused in part."""
        return bool(wanted) and all(
            at in self.before_refusal and self._finished(at, committed) in self.before_refusal[at]
            for at, committed in wanted.items()
        )

    def changes_nothing(self, wanted: Mapping[Partition, Committed]) -> bool:
        """Whether these say of every record what is committed: only a start is counted no more.

        Or what was, where another tool has changed it between a worker's question and its commit; or of a topic that is
        gone: its commits went with it, and to the next one of its name such a commit says nothing.
        """
        return all(self._stands(at, committed) for at, committed in wanted.items())

    def _stands(self, at: Partition, committed: Committed) -> bool:
        says, now = self._finished(at, committed), self.broker.group.offsets.get(at)
        found = _parse(self._stored_map(at, now.metadata)) if now else None
        if now and found and found.base == now.offset and says == self._finished(at, now):
            return True
        if now is None and (ours := _parse(self._stored_map(at, committed.metadata))):
            topic = self.broker.topics.get(at[0])
            if topic is None or is_another(ours.topic_id, topic.id):
                return True
        return at in self.skipped and says in {b"", *self.stood.get(at, ())}

    def _note_known(self, at: Partition, end: int) -> None:
        """A commit knows the offsets below `end`."""
        for uid, assignment in [*self.called_in.items()]:
            if assignment != self.broker.group.assignment:
                del self.called_in[uid]
            elif self.sent[uid].at == at and self.sent[uid].entry.offset < end:
                self.known.add(uid)

    def _check_row(self, at: Partition, tags: str) -> None:
        """Who works by an older row than a commit that it has seen takes for complete what waits for another topic.

        Where the first commit was by the newer row, its worker had seen none, and could not say that it is newer.
        """
        rows = [number for number, row in enumerate(self.rows) if topic_tags(row) == tags]
        if len(rows) > 1:  # it is not known by which of them
            self.committed_by.pop(at, None)
        elif rows:
            if self.first_by.setdefault(at, rows[0]) < self.committed_by.get(at, 0) > rows[0]:
                self._broken("rule 14", f"{name(at)} is committed by an older row than before")
            self.committed_by[at] = rows[0]

    def on_unfenced(self) -> None:
        """At least once: what others have done since may be repeated, and a row that they worked by is forgotten."""
        self.set_back = self.torn = True
        self.committed_by.clear()

    def is_reset(self, at: Partition, committed: Committed | None) -> None:
        """Another tool has changed the committed offset, or its map, or deleted both."""
        self.destroyed = True
        skipped = committed.offset if committed else 0
        before = self.skipped.get(at, 0) if self.broker.group.members else 0  # who has begun there commits so again
        self.skipped[at] = max(before, skipped)
        for sent in [sent for offset, sent in self.at.get(at, {}).items() if offset < skipped]:
            if not self._is_finished(sent):
                self._is_skipped(sent)
        self.finished[at] = b"\x01" * skipped
        self.to_be_called.pop(at, None)
        if max(map(len, self.rows)) == 1 and not self.broker.group.members:  # else a worker takes it back
            ours = [sent for offset, sent in self.at.get(at, {}).items() if offset >= skipped]
            fits = committed and (found := _parse(committed.metadata)) and found.base == skipped
            again = [sent for sent in ours if not (fits or sent.id is None or self._is_one_call(sent))]
            self.to_be_called[at] = {sent.uid: self._calls(sent) for sent in again}

    def _is_skipped(self, sent: Sent) -> None:
        """And with it what it had superseded."""
        sent.excused = True
        earlier = [each for each in self.by_id.get(sent.id or "", ()) if each.at == sent.at]
        for each in earlier:
            each.excused |= each.entry.offset < sent.entry.offset and self._is_finished(each) and not self.is_done(each)

    def _calls(self, sent: Sent) -> int:
        """With the dead letters: what is read again may be in one without a call, while its first call still hangs."""
        return self.called_with[sent.uid] + self.letters.get(sent.uid, Counter()).total()

    def _is_one_call(self, sent: Sent) -> bool:
        """It hangs beside others, and nothing would tell that it was read again, and given up with the same call."""
        return self.many_calls and not self.dead_letters and behaviour(sent.id or "") == HANGING

    def is_deleted(self, at: Partition, entry: Entry) -> None:
        """Retention or compaction has removed a record."""
        if sent := self.at.get(at, {}).get(entry.offset):
            sent.excused = True
            if not self._is_finished(sent):
                self.robbed.add(sent.id or "")

    def is_made_again(self, topic: str) -> None:
        """The topic was deleted and created again: none of its records is there any more."""
        self.destroyed = True
        for at in [at for at in self.at if at[0] == topic]:
            for sent in self.at.pop(at).values():
                sent.excused = True
                if not self._is_finished(sent):
                    self.robbed.add(sent.id or "")
            self.finished.pop(at, None)
            self.skipped.pop(at, None)
            self.to_be_called.pop(at, None)
        self.made_again.add(topic)

    def is_compacted(self) -> None:
        """The topic of maps: what the commits refer to is still there."""
        for at, committed in self.broker.group.offsets.items():
            if not self.may_go_back and not self._stored_map(at, committed.metadata):
                self._broken("rule 3", f"the map of {name(at)} is compacted away: {committed.metadata}")

    # ------------------------------------------------------------------ questions of the schedule

    def is_done(self, sent: Sent) -> bool:
        """Whether this fragment stands in a result everywhere it should, or process() filtered it.

        Or, with dead letters off, whether it is finished where it would be in one, or process() failed for it.
        """
        if not self.dead_letters and (sent.id is None or self._may_be_accused(sent.id)):
            return self._is_finished(sent)
        if not self.dead_letters and behaviour(sent.id or "") in GIVEN_UP:
            return self._was_called(sent)
        if sent.id is None or behaviour(sent.id) in {*GIVEN_UP, DEADLY}:
            return sent.uid in self.letters
        if PROCESS_FAILED in self.letters.get(sent.uid, ()):  # it ran alone when the process was killed
            return True
        if not self.outputs or behaviour(sent.id) == FILTERED:
            return sent.uid in self.called
        return any(self._is_complete(parts) for parts in self.made.get(sent.uid, ()))

    def _was_called(self, sent: Sent) -> bool:
        """Of an id that hangs one call is enough: given up with a topic that was added since, or with a part that came
        meanwhile in the place of another one, it needs no other.
        """
        hangs = behaviour(sent.id or "") == HANGING and (len(self.rows) > 1 or self.many_calls)
        return any(each.uid in self.called for each in (self.by_id[sent.id or ""] if hangs else [sent]))

    def is_over(self, id: str) -> bool:
        """Whether all fragments of an id are done and durably so: it may be used again."""
        return all(self._is_finished(sent) and self.is_done(sent) for sent in self.by_id[id])

    def is_known(self, id: str) -> bool:
        """Whether commits know of all its fragments with which others they were called: none of them waits.

        Not of an id that ends processes: how many that are is counted.
        """
        ours = self.by_id[id]
        return not id.endswith(("d", "h", "s")) and all(
            sent.uid in self.known or self._is_finished(sent) for sent in ours
        )

    def lacking(self, id: str) -> list[str]:
        """The topics in which the present round of this id has no fragment."""
        last = max(sent.round for sent in self.by_id[id])
        has = {sent.at[0] for sent in self.by_id[id] if sent.round == last}
        return [topic for topic in self.inputs if topic not in has]

    # ------------------------------------------------------------------ the end

    def waiting(self) -> int:
        """How many fragments the next owner would read again."""
        return sum(state != FINISHED for finished in self.finished.values() for state in finished)

    def check_made_again(self) -> None:
        """When all is quiet, the workers that run have noticed by themselves which topics are others."""
        for topic in self.made_again.intersection(self.inputs):
            for number in range(len(self.broker.topics[topic].logs)):
                committed = self.broker.group.offsets.get((topic, number), Committed(0, ""))
                head = _parse(committed.metadata) or _parse_reference(committed.metadata)
                if (topic, number) not in self.skipped and (not head or head.topic_id != self.broker.topics[topic].id):
                    self._broken("rule 14", f"{topic}[{number}] was made again: {committed}")

    def check_end(self, *, evicted: bool) -> None:
        """When all is quiet. `evicted`: what could not be completed has been given up by now."""
        if self.broker.open_transactions:
            self._broken("I4", f"open transactions: {[each.of for each in self.broker.open_transactions]}")
        for topic in self.inputs:
            for number, log in enumerate(self.broker.topics[topic].logs):
                self._check_end_of((topic, number), log.stable_end, evicted)
        for id in self.by_id:
            self._check_end_of_id(id)
        for before in self.to_be_called.values():
            for uid, calls in before.items():
                if self._is_there(self.sent[uid]) and self._calls(self.sent[uid]) == calls:
                    self._broken("rule 2", f"{self._text(self.sent[uid])} is not called again, as another tool wants")
        if not self.exactly_once and not self.may_repeat:
            for parts, counts in self.results.items():
                if max(counts.values()) > 1:
                    self._broken("I1", f"twice without a fault: {[self.sent[uid].id for uid in parts]}")
            for uid, reasons in self.letters.items():
                if reasons.total() > 1:
                    self._broken("I1", f"in several dead letters without a fault: {self._text(self.sent[uid])}")

    def check_others(self) -> None:
        """When all is quiet but for what fails for long: no other one was kept back."""
        for id in self.by_id:
            if AT_FIRST.get(id[-1:]) != LONG:
                self._check_end_of_id(id)

    def check_counters(self, counters: list[Counters]) -> None:
        """I7: where nothing was repeated, all that has become of the messages was counted, once."""
        if self.may_repeat:
            return
        sent_here = [sent for each in self.at.values() for sent in each.values()]
        invalid = [sent for sent in sent_here if sent.id is None and sent.entry.visible]
        counted = sum(each.invalid for each in counters)
        if counted != len(invalid) and not any(sent.excused for sent in invalid):
            self._broken("I7", f"{counted} invalid messages were counted, {len(invalid)} were sent")
        results = sum(sum(each.values()) for each in self.results.values())
        counted = sum(each.results - each.refused_results for each in counters)
        if counted * len(self.outputs) != results:
            self._broken("I7", f"{counted} results were counted, {results} were sent to {len(self.outputs)} topics")
        if any(sent.excused for sent in sent_here) or (
            self.repeats and not self.dead_letters
        ):  # nobody can tell whether it was before that
            return
        self._check_groups(counters)
        ended = [sent for sent in sent_here if sent.id is not None and sent.entry.visible and self._is_finished(sent)]
        self._check_fragments(len([sent for sent in ended if not self._has_left(sent)]), counters)

    def _check_groups(self, counters: list[Counters]) -> None:
        expected = {
            "filtered": len(self.calls.get(FILTERED, ())),
            "failed": len(self.calls.get(FAILING, set()) | self.calls.get(HANGING, set())),
            "evicted": self.groups_given_up if self.dead_letters else sum(each.evicted for each in counters),
        }
        if self.dead_letters:
            expected["failed"] = self.groups_failed
        elif self.repeats:
            del expected["failed"]
        for name, number in expected.items():
            counted = sum(getattr(each, name) for each in counters)
            if counted != number:
                self._broken("I7", f"{counted} groups were counted as {name}, {number} were")

    def _check_fragments(self, silent: int, counters: list[Counters]) -> None:
        """`silent`: how many are finished and have left no trace."""
        superseded = sum(each.superseded for each in counters)
        without = sum((each.evicted_without for each in counters), Counter[str]())
        lacking = sum(len(topics.split(",")) * count for topics, count in without.items())
        evicted = 0 if self.dead_letters else len(self.inputs) * without.total() - lacking
        if superseded + evicted != silent:
            self._broken("I7", f"{superseded} superseded, {evicted} given up were counted, {silent} have left no trace")

    def _has_left(self, sent: Sent) -> bool:
        """Whether a result, a dead letter or a call of process() tells what has become of it."""
        if sent.uid in self.made or sent.uid in self.letters:
            return True
        if behaviour(sent.id or "") in GIVEN_UP:
            return self._was_called(sent) and not self.dead_letters
        return sent.uid in self.called and (not self.outputs or behaviour(sent.id or "") == FILTERED)

    def _check_end_of(self, at: Partition, end: int, evicted: bool) -> None:
        committed = self.broker.group.offsets.get(at)
        finished = self.finished.get(at, b"")
        if committed is None or len(finished) != end:
            self._broken("I5", f"{name(at)} ends at {end}, read and committed up to {len(finished)}")
            return
        for offset, state in enumerate(finished):
            sent = self.at.get(at, {}).get(offset)
            if state != FINISHED and sent is not None:
                if evicted:
                    self._broken("I5", f"{self._text(sent)} still waits")
                elif self._was_to_go(sent):
                    self._broken("I1", f"{self._text(sent)} waits, and its group is complete")
            elif state != FINISHED and committed.offset <= offset:
                self._broken("I5", f"{name(at)}:{offset} is waited for, and there is no such record")

    def _was_to_go(self, sent: Sent) -> bool:
        """Whether a waiting fragment has mates that wait too, one of every topic, or can never have one."""
        if sent.id is None:
            return True
        ours = [each for each in self.by_id[sent.id] if each.round == sent.round]
        waiting = {each.at[0] for each in ours if not self._is_finished(each) and self._is_there(each)}
        return waiting >= self.rows[-1]

    def _check_end_of_id(self, id: str) -> None:
        fragments = self.by_id[id]
        for number in range(max(sent.round for sent in fragments) + 1):
            ours = [sent for sent in fragments if sent.round == number]
            given_up = self._is_finished if not self.dead_letters else lambda sent: sent.uid in self.letters
            by_row_before = self.is_withdrawn and any(map(given_up, ours))
            if self._must_be_joined(ours) and not by_row_before and not any(self.is_done(sent) for sent in ours):
                self._broken("I1", f"lost: {[self._text(sent) for sent in ours]}")

    def _must_be_joined(self, fragments: list[Sent]) -> bool:
        """Whether nothing excuses that there is no result of these fragments of one id."""
        there = [sent for sent in fragments if self._is_there(sent) and not sent.by_former_row]
        if len({sent.at[0] for sent in there}) < len(self.inputs) or len(there) < len(fragments):
            return False
        id = there[0].id or ""
        first = min(sent.since for sent in there)
        if id in self.robbed:  # what was left of a round before may have waited together with these, and longer
            first = min(first, *(sent.since for sent in self.by_id[id]))
        if max(sent.since for sent in there) - first >= 2 * self.message_timeout - self._slack(there):
            return False  # an open transaction has hidden a part for so long
        span = max(sent.entry.sent for sent in there) - first
        return span < self.message_timeout - self._slack(there) and self.are_dated(there)

    def are_dated(self, fragments: Iterable[Sent]) -> bool:
        """Whether a restart keeps when these arrived: by steps in maps, else by timestamps and the time of the commit,
        which is that of a host.
        """
        return self.keeps_arrivals or (self.slack < HOUR and all(sent.honest for sent in fragments))

    def _slack(self, fragments: list[Sent]) -> float:
        return 0.0 if all(sent.honest for sent in fragments) else A_STEP

    # ------------------------------------------------------------------ a commit

    def _finished(self, at: Partition, committed: Committed) -> bytes | None:
        """The state of every offset from 0 on, as the next owner will have it."""
        if len(committed.metadata) > METADATA_LIMIT:
            self._broken("I6", f"a map of {len(committed.metadata)} characters")
        text = self._stored_map(at, committed.metadata)
        loaded = _parse(text)
        if loaded is None or (loaded.topic_id, loaded.base) != (self.broker.topics[at[0]].id, committed.offset):
            topic_id = committed.metadata.split(":")[1:2]
            if topic_id and topic_id != [self.broker.topics[at[0]].id]:
                return None  # by a worker that does not know yet that the topic was made again
            self._broken(
                "rule 3", f"{name(at)} is committed at {committed.offset} without its map: {committed.metadata!r}"
            )
            return None
        return b"\x01" * committed.offset + bytes(loaded.states)

    def _stored_map(self, at: Partition, metadata: str) -> str:
        """The map that a commit refers to, from the topic of maps as it is at this moment; the metadata itself else."""
        reference = _parse_reference(metadata)
        if reference is None:
            return metadata
        entries = [each for each in self.broker.log((MAPS, 0)).entries[reference.since :] if each]
        there = {(entry.key or b"", digest(entry.value or b"")): entry.value or b"" for entry in entries}
        return b"".join(there.get(record, b"") for record in reference.records(*at)).decode()

    def _check_commit(self, at: Partition, committed: Committed, finished: bytes, before: bytes) -> None:
        log = self.broker.log(at)
        if len(finished) > log.end:
            self._broken("I3", f"{name(at)} is committed up to {len(finished)}, beyond its end, {log.end}")
        for offset, state in enumerate(before[: len(finished)]):
            if state == FINISHED != finished[offset] and not self.may_go_back:
                self._broken("rule 1", f"{name(at)}:{offset} was finished by an earlier commit and is not in this one")
                return
        if len(finished) < len(before) and not self.may_go_back and FINISHED in before[len(finished) :]:
            self._broken("rule 1", f"{name(at)} was known up to {len(before)}, in this commit up to {len(finished)}")
        for offset, state in enumerate(finished):
            if state == FINISHED and before[offset : offset + 1] != b"\x01":
                self._check_finished(at, offset)

    def _check_finished(self, at: Partition, offset: int) -> None:
        sent = self.at.get(at, {}).get(offset)
        log = self.broker.log(at)
        if offset >= log.stable_end and not (sent and sent.excused):  # else another tool has skipped it
            self._broken("I3", f"{name(at)}:{offset} is finished, and readers cannot see it yet")
        if sent is None or not self._is_there(sent):
            return
        has_an_end = self.is_done(sent) or sent.uid in self.letters or self._is_superseded(sent)
        if not has_an_end and not self._may_be_discarded(sent):
            self._broken("I3", f"{self._text(sent)} is finished in a commit, and nothing has become of it")

    def _is_superseded(self, sent: Sent) -> bool:
        if max(map(len, self.rows)) == 1:  # each is complete
            return False
        later = (each for each in self.by_id.get(sent.id or "", ()) if each.at == sent.at)
        return any(each.entry.offset > sent.entry.offset and each.entry.visible for each in later)

    def _may_be_evicted(self, sent: Sent) -> bool:
        if sent.at[0] in self.made_again:  # until that is noticed, it may pass for the record of before at its offset
            return True
        of_id = self.by_id[sent.id or ""]
        may_mix = (sent.id or "") in self.robbed or self.destroyed or self.torn  # then one may supersede the other
        ours = [each for each in of_id if each.round == sent.round or may_mix]
        others = ours if self.are_dated(ours) else self.sent.values()
        if self.broker.now - min(each.since for each in others) <= self.message_timeout - self._slack(ours):
            return False
        rest = [each for each in ours if each is not sent]  # of the same topic: the mates may be with that one
        may_be_single = any(self.is_done(each) or each.at == sent.at for each in rest)
        return may_be_single or self.is_withdrawn or not self._must_be_joined(ours)

    # ------------------------------------------------------------------ results

    def _uids(self, message: dict[str, Any]) -> Parts:
        return tuple(message["content"][topic] for topic in sorted(message["content"]))

    def _parts(self, message: object) -> Parts | None:
        """What a message is made of. Complains unless that is one fragment of every topic, all of one id."""
        content = message.get("content") if isinstance(message, dict) else None
        if not isinstance(message, dict) or not isinstance(content, dict) or set(content) not in self.rows:
            self._broken("I2", f"not one fragment of every topic: {message}")
            return None
        parts = {topic: self.sent.get(content[topic]) for topic in sorted(content)}
        fragments = [sent for sent in parts.values() if sent]
        if any(sent is None or sent.at[0] != topic for topic, sent in parts.items()):
            self._broken("I2", f"foreign fragments: {message}")
            return None
        if {sent.id for sent in fragments} != {str(message["id"])}:
            self._broken("I2", f"fragments of several ids: {message}")
        if message["from"] != max(content):
            self._broken("rule 5", f"an earlier topic has won over a later one: {message}")
        if any(sent.entry.transaction and sent.entry.transaction.committed is not True for sent in fragments):
            self._broken("I2", f"a fragment that was aborted, or may be: {message}")
        return self._uids(message)

    def _check_rounds(self, parts: Parts) -> None:
        """I2: an id that is used again is joined of new fragments only.

        Also where what came before is not done, but commits know it. (Without one of its fragments nobody could tell.)
        """
        fragments = [self.sent[uid] for uid in parts if uid in self.sent]
        if len({sent.round for sent in fragments}) == 1 or self.destroyed or self.torn:
            return
        if not self.robbed.intersection(sent.id or "" for sent in fragments):
            self._broken("I2", f"fragments that do not belong together: {[self._text(sent) for sent in fragments]}")

    def _is_complete(self, parts: Parts) -> bool:
        expected = self.many if behaviour(self.sent[parts[0]].id or "") == TWOFOLD else 1
        return len(self.results[parts]) == expected * len(self.outputs)

    def _is_finished(self, sent: Sent) -> bool:
        return self.finished.get(sent.at, b"")[sent.entry.offset : sent.entry.offset + 1] == b"\x01"

    def _is_there(self, sent: Sent) -> bool:
        return sent.entry.visible and not sent.excused

    def _text(self, sent: Sent) -> str:
        return f"id {sent.id} at {name(sent.at)}:{sent.entry.offset}"

    def _broken(self, rule: str, what: str) -> None:
        self.problems.append((rule, what))


def behaviour(id: str) -> str:
    """What process() does with an id: a number and, for some, a letter."""
    return {"n": FILTERED, "t": TWOFOLD, "f": FAILING, "d": DEADLY, "h": HANGING}.get(id[-1:], FORWARDED)


ENDS = {FORWARDED, FILTERED, TWOFOLD, DEADLY, *GIVEN_UP}
"""What process() does when a message has come to its end, but for those that fail."""
AT_FIRST = {"e": FLAKY, "r": LATER, "s": SLEEPY, "k": LONG}
"""What it does before, with the ids that end so."""


def name(at: Partition) -> str:
    return f"{at[0]}[{at[1]}]"
