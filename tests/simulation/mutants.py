"""Bugs planted on purpose, at least one for each numbered rule: a simulation that does not find them proves nothing.

Each is a patch of the worker's source text (planting.py). `python -m tests.simulation.mutants` looks for every one of
them until a promise is broken, and prints after how many schedules it was.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.simulation.explore import explore, notes_of, settle_down
from tests.simulation.planting import Patch, planted
from tests.simulation.process import Violation
from tests.simulation.schedule import Schedule

SCHEDULES = 10_000  # that are tried for one mutant


@dataclass(frozen=True, slots=True)
class Mutant:
    rule: str
    what: str
    patches: tuple[Patch, ...]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the setup that are not drawn, where what the bug needs comes together too rarely."""

    @contextmanager
    def planted(self) -> Iterator[None]:
        """Raises Misfit where a patch does not fit the text any more."""
        with planted(self.patches):
            yield


AGGREGATOR = "utils/joining/aggregator.py"
ARRIVALS = "utils/joining/arrivals.py"
DEAD_LETTERS = "utils/joining/dead_letters.py"
MESSAGES = "utils/joining/messages.py"
OFFSETS = "utils/joining/offsets.py"
PACKING = "utils/joining/packing.py"
REFERENCES = "utils/joining/references.py"
STATES = "utils/joining/states.py"
SUSPICION = "utils/joining/suspicion.py"
BATCHES = "utils/reading/batches.py"
EVIDENCE = "utils/reading/evidence.py"
GOING_BACK = "utils/reading/going_back.py"
INTAKE = "utils/reading/intake.py"
LOCATOR = "utils/reading/locator.py"
HOLDING = "utils/reading/holding.py"
IN_STEP = "utils/reading/in_step.py"
WAITING = "utils/reading/waiting.py"
OWNED = "utils/reading/owned.py"
PAUSING = "utils/reading/pausing.py"
ATTEMPTS = "utils/processing/attempts.py"
DISPATCHER = "utils/processing/dispatcher.py"
ORDER = "utils/processing/order.py"
OVERTIME = "utils/processing/overtime.py"
DONE = "utils/processing/done.py"
OUTCOME = "utils/processing/outcome.py"
PARKING = "utils/processing/parking.py"
SUSPECTS = "utils/processing/suspects.py"
ASSIGNMENT = "utils/sending/assignment.py"
COMMITS = "utils/sending/commits.py"
DELIVERY = "utils/sending/delivery.py"
FAILURES = "utils/sending/failures.py"
MAP_STORE = "utils/sending/map_store.py"
OUTBOX = "utils/sending/outbox.py"
PACE = "utils/sending/pace.py"
REFRESH = "utils/running/refresh.py"
SUPERVISION = "utils/running/supervision.py"
LIMITS = "utils/kafka/limits.py"
MEMBERSHIP = "utils/kafka/membership.py"
LOOP = "framework.py"


def _mutant(rule: str, what: str, file: str, old: str, new: str, *more: Patch, **fixed: Any) -> Mutant:
    return Mutant(rule, what, (Patch(file, old, new), *more), fixed)


OFFSETS_AND_MAPS = (
    _mutant(
        "1",
        "the position is committed",
        OFFSETS,
        "        return self.states.cut()",
        "        self.states.replace(UNFINISHED, self.base, self.position)\n        return self.states.cut()",
    ),
    _mutant(
        "1",
        "what is not re-read yet is left out of the map",
        OFFSETS,
        "now_ms, self.states, self.layout.joined_with",
        "now_ms, self.states.up_to(max(self.position, lowest)), self.layout.joined_with",
    ),
    _mutant("1", "finished offsets are handled again", OFFSETS, "return state == UNFINISHED", "return True"),
    _mutant(
        "1",
        "a leap goes over what is to be done",
        OFFSETS,
        "self.states.next_unfinished(self.position)",
        "self.states.next_unfinished(self.position + 1)",
        odd=True,
    ),
    _mutant(
        "1",
        "unfinished offsets of the map are skipped",
        OFFSETS,
        "return state == UNFINISHED",
        "return state == UNFINISHED and offset >= self.loaded_end",
    ),
    _mutant("1", "gaps stay unfinished", OFFSETS, "extend(FINISHED, position -", "extend(UNFINISHED, position -"),
    _mutant("1", "markers at the end are not noticed", OWNED, "if at.offset > offsets.position:", "if not at:"),
    _mutant(
        "1",
        "the map is not loaded",
        LOCATOR,
        "return commit.offset, found if found and found.base == commit.offset else None",
        "return commit.offset, None",
    ),
    _mutant(
        "2",
        "a map of another base is taken",
        LOCATOR,
        "return commit.offset, found if found and found.base == commit.offset else None",
        "return commit.offset, found",
        destruction=True,
        rows=False,
        topics=1,
        partitions=1,
        workers=1,
        rebalances=True,
        loss=False,
        deadly=False,
    ),
    _mutant(
        "2",
        "a map of another topic is taken",
        LOCATOR,
        "        if self._is_of_former(topic, number):",
        "        if False:",
    ),
    _mutant(
        "2", "the checksum is not looked at", OFFSETS, "if found == checksum(body) and len(fields)", "if len(fields)"
    ),
    _mutant(
        "2",
        "damage raises",
        OFFSETS,
        "    return fields if found == checksum(body)",
        "    if text:\n        int(found, 16)\n    return fields if found == checksum(body)",
    ),
    _mutant(
        "2", "runs of what waits are joined", STATES, "            if first > end:", "            if first > end + 2:"
    ),
    _mutant(
        "1",
        "what waits far behind is forgotten",
        STATES,
        "segment = segment_of(states)",
        'segment = segment_of(states.replace(b"\\x00", b"\\x01"))',
    ),
    _mutant("3", "the map is left out", OFFSETS, "metadata = offset_map.encode()", 'metadata = ""'),
    _mutant(
        "3",
        "one partition is committed",
        LOOP,
        "for offsets in self.intake.owned.partitions.values()]",
        "for offsets in self.intake.owned.partitions.values()][:1]",
    ),
    _mutant(
        "3",
        "a commit refused for its maps is not made again",
        MAP_STORE,
        "if error.code() != KafkaError.OFFSET_METADATA_TOO_LARGE:",
        "if error is not None:",
        strict=True,
    ),
    _mutant(
        "3",
        "the key in use is written over",
        REFERENCES,
        "self._slot = next(slot for slot in count() if slot not in self._taken)",
        "self._slot = 0",
        overflows=True,
    ),
    _mutant(
        "3",
        "the key of a commit that failed is written over",
        REFERENCES,
        "        if confirmed and self._on_its_way:",
        "        if not confirmed:\n            self._taken.discard(self._slot)\n"
        "        if confirmed and self._on_its_way:",
        overflows=True,
    ),
    _mutant(
        "3",
        "all workers write under the same keys",
        REFERENCES,
        "self._writer = writer",
        'self._writer = "w"',
        overflows=True,
    ),
    _mutant(
        "3",
        "a predecessor's maps are deleted too early",
        REFERENCES,
        "        records, self._out_of_use = self._out_of_use, []",
        "        for at, lot in self._before.items():\n            self._delete(at, lot)\n"
        "        records, self._out_of_use = self._out_of_use, []",
        overflows=True,
    ),
    _mutant(
        "3",
        "the maps in use are deleted",
        REFERENCES,
        "for at in self._ours.keys() - self._stored:",
        "for at in list(self._ours):",
        overflows=True,
    ),
    _mutant(
        "3",
        "the map is stored after the commit",
        DELIVERY,
        "        if fitting := self._stored(consumer, points):",
        "        produce, later = self._outbox._alone.put, []\n"
        "        self._outbox._alone.put = lambda *record, **named: later.append((record, named))\n"
        "        if fitting := self._stored(consumer, points):",
        Patch(
            DELIVERY,
            "consumer.commit(offsets=_as_offsets(fitting), asynchronous=True)\n",
            "consumer.commit(offsets=_as_offsets(fitting), asynchronous=True)\n"
            "        self._outbox._alone.put = produce\n"
            "        for record, named in later:\n            produce(*record, **named)\n",
        ),
        overflows=True,
    ),
    _mutant(
        "3",
        "a map counts as stored when it is produced",
        DELIVERY,
        "unacknowledged = self._unacknowledged(_STORE)",
        "unacknowledged = 0",
        overflows=True,
    ),
    _mutant(
        "3",
        "a stored map that cannot be read is none",
        MAP_STORE,
        "        values = self._read(references)",
        "        try:\n            values = self._read(references)\n"
        "        except KafkaException:\n            return {}",
        overflows=True,
    ),
    _mutant("3", "stored maps are not read", MAP_STORE, "values = self._read(references)", "return {}", overflows=True),
    _mutant(
        "3",
        "a map that does not fit is left out",
        REFERENCES,
        "                reference, parts = self._store(point, since)\n"
        "                point = point._replace(metadata=reference.encode())\n"
        "                records += parts",
        '                point = point._replace(metadata="")',
        overflows=True,
    ),
    _mutant(
        "3",
        "one record of a stored map is named",
        REFERENCES,
        "self._before.get(at), since, digests)",
        "self._before.get(at), since, digests[:1])",
        Patch(
            REFERENCES,
            "keys = (key for key, _ in reference.records(*at))",
            "keys = [key(*at, self._writer, self._slot, part) for part in range(len(parts))]",
        ),
        overflows=True,
    ),
    _mutant(
        "3",
        "a stored map is looked for behind itself",
        REFERENCES,
        "self._before.get(at), since, digests)",
        "self._before.get(at), since + 1, digests)",
        overflows=True,
    ),
    _mutant(
        "3",
        "a stored map is looked for in the first records only",
        MAP_STORE,
        "while wanted and position < end.offset:",
        "for _ in range(1):",
        Patch(MAP_STORE, "at_once(reader, _READ, _WAIT)", "at_once(reader, _READ, _WAIT)[:1]"),
        overflows=True,
    ),
    _mutant(
        "3",
        "a commit that failed counts for the stored maps",
        REFERENCES,
        "if confirmed and self._on_its_way:",
        "if self._on_its_way:",
        overflows=True,
    ),
    _mutant(
        "4",
        "the map is of a moment before the offset",
        OFFSETS,
        "lowest, epoch = self.lowest_unfinished(),",
        "before, lowest, epoch = self.states.copy(), self.lowest_unfinished(),",
        Patch(OFFSETS, "now_ms, self.states, self.layout.joined_with", "now_ms, before, self.layout.joined_with"),
    ),
    _mutant(
        "4",
        "what is pending does not make a commit due",
        COMMITS,
        "has_news = self.has_news or self.delivery.pending > 0",
        "has_news = self.has_news",
    ),
    _mutant(
        "4",
        "errors of single partitions pass",
        DELIVERY,
        "(error, *(partition.error for partition in partitions))",
        "(error,)",
        faults=True,
        exactly_once=False,
    ),
    _mutant(
        "4",
        "a failed commit is not repeated",
        DELIVERY,
        "(error, *(partition.error for partition in partitions))",
        "()",
    ),
)

_AGAIN_PUT_OFF = dict.fromkeys(("calls", "tight"), True) | {"topics": 2, "partitions": 1, "workers": 1}

JOINING = (
    _mutant(
        "5",
        "a group is complete without its last topic",
        AGGREGATOR,
        "self._topics = topics",
        "self._topics = max(topics - 1, 1)",
    ),
    _mutant("5", "a superseded fragment stays unfinished", WAITING, "mark(superseded, FINISHED)", "pass"),
    _mutant(
        "5",
        "the superseding fragment is finished instead",
        AGGREGATOR,
        "superseded += replaced\n                size -= size_of(replaced)\n            if len",
        "superseded += one if replaced else ()\n                size -= size_of(replaced)\n            if len",
    ),
    _mutant(
        "5",
        "what is read again supersedes what was complete",
        AGGREGATOR,
        "if self.keeps_apart and has_come_back(old) and not is_earlier:",
        "if False:",
    ),
    _mutant(
        "5",
        "what is new supersedes what was complete and is read again",
        AGGREGATOR,
        "if self.keeps_apart and has_come_back(old) and not is_earlier:",
        "if self.keeps_apart and has_come_back(old) and has_come_back(new) and not is_earlier:",
    ),
    _mutant(
        "5",
        "what was put off meets what waited meanwhile",
        WAITING,
        "for each in self.groups.take(group.id):",
        "for each in ():",
        **_AGAIN_PUT_OFF,
    ),
    _mutant(
        "5",
        "what was put off is superseded when it is read again",
        OFFSETS,
        "        self.back_end = max(self.back_end, offset + 1)\n",
        "",
        **_AGAIN_PUT_OFF,
    ),
    _mutant(
        "5",
        "read again without room the part of another message is met",
        GOING_BACK,
        "if any(has_come_back(each) or each.offset < each.offsets.position for each in group.fragments):",
        "if not group.fragments:",
        tight=True,
    ),
    _mutant(
        "5",
        "two fragments of one topic make a group",
        AGGREGATOR,
        "together, replaced = self._put_in(id, others, one[0])",
        "together, replaced = tuple(sorted((*others, one[0]), key=_topic)), []",
    ),
    _mutant(
        "5",
        "1 is not '1'",
        MESSAGES,
        "    id = str(head.id)\n",
        '    id = f"#{head.id}" if isinstance(head.id, int) else str(head.id)\n',
    ),
    _mutant(
        "5",
        "fragments merge in the order of arrival",
        AGGREGATOR,
        "return Group(id, fragments, size)",
        "return Group(id, tuple(sorted(fragments, key=lambda each: each.arrival)), size)",
    ),
    _mutant(
        "6",
        "a plain timer evicts",
        EVIDENCE,
        "        enough = {}\n",
        "        return dict.fromkeys(self._owned.partitions, Enough(now - timeout, FOREVER))\n",
    ),
    _mutant(
        "6",
        "a mate is awaited in one partition only",
        EVIDENCE,
        "        if not self._siblings.are_together():\n",
        "        if True:\n            return enough\n        if not self._siblings.are_together():\n",
    ),
    _mutant(
        "6",
        "a mate is awaited in the first partition only",
        EVIDENCE,
        "        if not self._siblings.are_together():\n",
        "        first = min((number for _, number in enough), default=0)\n"
        "        if self._siblings.are_together():\n"
        "            return {(topic, number): enough[topic, first] for topic, number in enough}\n"
        "        if not self._siblings.are_together():\n",
        evictions=True,
        unequal=False,
        alike=True,
    ),
    _mutant(
        "6",
        "a mate is not awaited where it can only be",
        EVIDENCE,
        "        if not self._siblings.are_together():\n",
        "        if self._siblings.are_together():\n"
        "            return dict.fromkeys(enough, Enough(now - timeout, FOREVER))\n"
        "        if not self._siblings.are_together():\n",
        evictions=True,
        unequal=False,
        alike=True,
    ),
    _mutant(
        "6",
        "what is evicted stays unfinished",
        LOOP,
        "if evicted := self._waiting.evict(began, self.message_timeout):",
        "if evicted := self._waiting.evict(began, self.message_timeout) and []:",
    ),
    _mutant("6", "the timer begins anew at a restart", LOOP, "if batch.is_new:", "if batch:"),
    _mutant(
        "6",
        "a mate behind an open transaction is not awaited",
        EVIDENCE,
        "in self._read_all(now).items()",
        "in readable.items()",
    ),
    _mutant(
        "6",
        "how long something has waited is told by clocks of hosts",
        LOCATOR,
        "start, loaded, now)",
        "start, loaded, now - (self.wall_clock() - loaded.time_ms / 1000 if loaded else 0.0))",
    ),
    _mutant(
        "6",
        "an arrival may be before what any can be",
        OFFSETS,
        "return min(max(epoch + timestamp, first), last)",
        "return min(epoch + timestamp, last)",
    ),
    _mutant(
        "6",
        "an arrival may be after the last commit",
        OFFSETS,
        "return min(max(epoch + timestamp, first), last)",
        "return max(epoch + timestamp, first)",
        evictions=True,
        tight=False,
    ),
    _mutant("6", "the steps of a map are not read", OFFSETS, "unpack_steps(rest, base, time_ms), (int", "(), (int"),
    _mutant(
        "6",
        "the steps of a map are not carried on",
        ARRIVALS,
        "        return kept\n",
        "        return [(0, kept[0][1]), *kept[len(self._before) :]] if kept else []\n",
    ),
    _mutant(
        "6",
        "an arrival is that of the next step",
        ARRIVALS,
        "at = bisect_right(steps, offset, key=_offset)\n        if not at:",
        "at = bisect_right(steps, offset + 1, key=_offset)\n        if not at:",
        Patch(ARRIVALS, "if offset < self._end else self._since", "if offset + 1 < self._end else self._since"),
    ),
    _mutant(
        "6",
        "an end counts wherever reading is",
        EVIDENCE,
        "if owned[at].position >= end:",
        "if at:",
        evictions=True,
    ),
    _mutant(
        "6",
        "an end is of when the answer came",
        EVIDENCE,
        "answers = self._ask.answers()",
        "answers = {at: (self._owned._clock(), end) for at, (_, end) in self._ask.answers().items()}",
        evictions=True,
        quirks=True,
    ),
)

_QUIET = dict.fromkeys(("crashes", "freezes", "faults", "loss", "destruction"), False)
_DEADLY = _QUIET | {"deadly": True, "tight": False}
IN_STEPS = (
    _mutant(
        "5",
        "what is held back to be read in step counts as read",
        IN_STEP,
        "asked = [at for each in partitions if not self._holds(at := _at(each))]",
        "asked = [_at(each) for each in partitions]",
        in_step=True,
    ),
    _mutant(
        "5",
        "what is held back outlives a rebalance",
        IN_STEP,
        "self._assigned = {_at(each): _begun(each) for each in partitions}",
        "self._assigned = {_at(each): self._assigned.get(_at(each), _begun(each)) for each in partitions}",
        in_step=True,
    ),
    _mutant(
        "5",
        "what is held back comes, though reading goes on elsewhere",
        IN_STEP,
        "self._assigned[at] = _begun(partition)",
        "self._assigned.setdefault(at, _begun(partition))",
        in_step=True,
        tight=True,
    ),
    _mutant(
        "5",
        "what a rebalance has made stale is held back",
        IN_STEP,
        "if assigned is self._assigned:",
        "if True:",
        in_step=True,
        quirks=True,
        rebalances=True,
    ),
)

_CALLS = (
    _QUIET
    | {"calls": True, "topics": 1, "partitions": 1, "workers": 1}
    | dict.fromkeys(("large", "rebalances", "deadly", "unequal", "tight"), False)
)
_PARKED = _CALLS | {"tight": True}
_MANY = {"odd": True, "tight": True, "large": False, "narrow": False, "topics": 1, "calls": False, "slow": False}
_SHED = (
    _QUIET
    | {"partitions": 1, "workers": 1, "tight": True, "large": True}
    | dict.fromkeys(("rebalances", "unequal", "deadly"), False)
)

MEMORY = (
    _mutant("7", "memory is not bounded", WAITING, "self.room = room\n", "self.room = 1 << 40\n"),
    _mutant(
        "7",
        "what was shed is finished",
        OFFSETS,
        "self.states.set(offset, SHED)\n        self.shed.add(number)",
        "self.states.set(offset, FINISHED)",
    ),
    _mutant(
        "7",
        "who makes room for a newcomer is forgotten",
        WAITING,
        "self._going_back.drop(self.groups.take(self._newcomers.popitem(last=False)[0]), now)",
        "self.groups.take(self._newcomers.popitem(last=False)[0])",
        tight=True,
    ),
    _mutant("7", "what was shed is not read again", OWNED, "if offsets.shed.since is not None}", "if not offsets}"),
    _mutant(
        "7",
        "what came last drops what waits",
        AGGREGATOR,
        "newest = waiting.popitem()  # by its key each would be found behind the places of those before it",
        "newest = (id := list(waiting)[-2 if added else -1], waiting.pop(id))",
        **_SHED,
    ),
    _mutant(
        "7",
        "what has no room is read again at once",
        GOING_BACK,
        "return in_bytes < self._room // 4 and (not in_bytes or in_bytes + current.largest <= self._room)",
        "return in_bytes < self._room // 4",
        **_SHED | {"slow": True},
    ),
    _mutant(
        "7",
        "what was kept is read again too",
        OFFSETS,
        "        self.position = self.states.lowest_shed()\n",
        "        self.position = self.states.lowest_shed()\n"
        "        self.shed.read_end, self.shed.count = self.position, 0\n"
        '        self.states = States.of(bytes(self.states).replace(b"\\x02", b"\\x00"), self.base)\n',
    ),
    _mutant(
        "7",
        "who is paused goes on because it is ahead no more",
        PAUSING,
        "if not self._all_paused and (resumed := self.ahead - ahead):",
        "if resumed := self.ahead - ahead:",
        tight=True,
        pauses=True,
    ),
    _mutant("7", "who was paused stays paused", PAUSING, "ahead = set(ahead)", "ahead = set(ahead) | self.ahead"),
    _mutant(
        "7",
        "who was paused near the bound stays so below it",
        HOLDING,
        "        if to_come <= self._room // 4:\n            pausing.pause_only(())\n",
        "        if to_come <= self._room // 4:\n",
    ),
    _mutant(
        "7",
        "who is needed elsewhere is paused",
        HOLDING,
        "counts = over_all_partitions(counts, {number for _, number in partitions})",
        "pass",
        topics=2,
        partitions=1,
        workers=1,
        tight=True,
        large=False,
        unequal=True,
        deadly=False,
    ),
    _mutant(
        "7",
        "a partition of another number is paused",
        HOLDING,
        "ahead = ahead_of_siblings(counts, worth)",
        "ahead = {(topic, 1 - number) for topic, number in ahead_of_siblings(counts, worth)}",
        topics=2,
        partitions=2,
        workers=1,
        tight=True,
        unequal=False,
        alike=True,
    ),
    _mutant(
        "7",
        "who was paused is so after a rebalance",
        ASSIGNMENT,
        "consumer.resume(partitions)",
        "pass",
        tight=True,
        rebalances=True,
    ),
    _mutant(
        "7",
        "what is parked is not bounded",
        LOOP,
        "if self.executor.parked.bytes > self._waiting.room_to_park:",
        "if False:",
        **_PARKED,
    ),
    _mutant(
        "7",
        "what was put off is not read again",
        GOING_BACK,
        "if self._has_room_to_park(parked) or put_off.has_waited(now):",
        "if False:",
        **_PARKED,
    ),
    _mutant(
        "7",
        "what rests for hours keeps back what was put off",
        GOING_BACK,
        " or put_off.has_waited(now)",
        "",
        **_PARKED | {"topics": 1, "large": True, "many_calls": True, "rows": False},
    ),
    _mutant(
        "7",
        "later messages of an id that was put off are taken",
        GOING_BACK,
        "self.away.add(group.id)\n        self._put_off",
        'self.away.add("none")\n        self._put_off',
        **_PARKED,
    ),
    _mutant(
        "7",
        "of what is parked the oldest leaves memory",
        PARKING,
        "self._remove(behind[-1])\n                    shed.append(behind.pop())",
        "self._remove(behind[0])\n                    shed.append(behind.popleft())",
        **_PARKED,
    ),
    _mutant(
        "7",
        "of results their bytes count alone",
        DELIVERY,
        " + RESULT_OVERHEAD * overheads",
        "",
        Patch(DELIVERY, "len(result.value) + RESULT_OVERHEAD for", "len(result.value) for"),
        Patch(OUTCOME, " + RESULT_OVERHEAD * len(self.results)", ""),
        **_MANY,
    ),
    _mutant(
        "7",
        "calls begin however many results wait",
        DONE,
        "return self._made - self._collected > self._most",
        "return False",
        **_MANY,
    ),
    _mutant(
        "7",
        "results are collected without room for them",
        LOOP,
        "takes_results = self.delivery.backlog.bytes < self._waiting.room",
        "takes_results = True",
        **_MANY,
    ),
)

_COUNTED = _QUIET | {"odd": True, "evictions": True, "deadly": False}

PROCESS_AND_DELIVER = (
    _mutant(
        "8",
        "a share of the partitions ends the process",
        SUPERVISION,
        "        if cure := client_errors.cure_of(error):",
        "        if isinstance(error, ConfigError):\n            raise error\n"
        "        if cure := client_errors.cure_of(error):",
        unequal=True,
        workers=1,
        crashes=True,
        rows=False,
        calls=False,
        deadly=False,
        freezes=False,
    ),
    _mutant(
        "8",
        "a share of unequal partition counts is taken",
        LOCATOR,
        "if len(set(counts.values())) > 1 and owned < sum(counts.values()):",
        "if False:",
        unequal=True,
        workers=2,
        evictions=True,
    ),
    _mutant(
        "9",
        "what waits for its own id takes the places of others",
        LOOP,
        "in_flight = self.executor.in_flight - parked.groups",
        "in_flight = self.executor.in_flight",
        **_CALLS | {"small_queue": True},
    ),
    _mutant(
        "9",
        "an id is called while another message of it rests",
        ORDER,
        "        parked.put_behind(group)\n        return True",
        "        return False",
        **_CALLS,
    ),
    _mutant(
        "9",
        "filtered groups stay unfinished",
        LOOP,
        "before = self.delivery.backlog.bytes\n        self.delivery.send(outcomes)",
        "before = self.delivery.backlog.bytes\n"
        "        self.delivery.send([each for each in outcomes if each.letter or each.results])",
    ),
    _mutant(
        "9",
        "failed groups are finished",
        LOOP,
        "([each] if each.error is None else self.failures.failed(each))",
        "[each if each.error is None else Outcome(each.group, [])]",
    ),
    _mutant(
        "9",
        "one result of a list is sent",
        MESSAGES,
        "return [_result(item, group_id) for item in returned]",
        "return [_result(item, group_id) for item in returned][:1]",
    ),
    _mutant(
        "9",
        "what is given up leaves no dead letter",
        FAILURES,
        "return Outcome(group, [], letter=letter, lacks_some",
        "return Outcome(group, [], lacks_some",
    ),
    _mutant(
        "9",
        "a dead letter holds one fragment of several",
        DEAD_LETTERS,
        '    about = {"reason": reason',
        '    group = msgspec.structs.replace(group, fragments=group.fragments[:1])\n    about = {"reason": reason',
    ),
    _mutant(
        "9",
        "a dead letter names another reason",
        DEAD_LETTERS,
        '    about = {"reason": reason',
        '    reason = {"invalid_message": "process_failed"}.get(reason, "invalid_message")\n'
        '    about = {"reason": reason',
    ),
    _mutant("9", "a dead letter names another source", DEAD_LETTERS, '",".join(sources(group))', '"a:0:0"'),
    _mutant(
        "9",
        "a dead letter does not hold the bytes that came",
        DEAD_LETTERS,
        "or key, first.value, theirs + ours",
        'or key, first.value + b" ", theirs + ours',
    ),
    _mutant(
        "9",
        "a dead letter names topics that were there",
        WAITING,
        "return [names[index] for index in self.groups.missing(group)]",
        "return names",
    ),
    _mutant(
        "9",
        "a dead letter is sent twice",
        OUTBOX,
        "            self._put_patiently(self._failures.topic, letter.key, letter.value, letter.headers)",
        "            for _ in range(2):\n"
        "                self._put_patiently(self._failures.topic, letter.key, letter.value, letter.headers)",
    ),
    _mutant(
        "I7",
        "what is superseded is not counted",
        WAITING,
        "self._counters.superseded += len(superseded)",
        "pass",
        **_COUNTED,
    ),
    _mutant(
        "I7",
        "what is given up is not counted",
        FAILURES,
        "self._counters.count_evicted(lacking)",
        "pass",
        **_COUNTED,
    ),
    _mutant(
        "I7", "what is filtered is not counted", LOOP, "self.counters.filtered += sizes.count(0)", "pass", **_COUNTED
    ),
    _mutant(
        "I7",
        "what has failed is not counted",
        FAILURES,
        "self._counters.failed += 1\n        if (beside",
        "if (beside",
        **_COUNTED,
    ),
    _mutant(
        "10",
        "finished when produced, not when acknowledged",
        DELIVERY,
        "if self._unacknowledged(_SETTLE):",
        "if False:",
    ),
    _mutant(
        "10",
        "what is held counts as safe",
        DELIVERY,
        "        if not self._settling:\n            self._produce()\n            self._settling",
        "        _mark_sent(self._held)\n        if not self._settling:\n            self._produce()\n"
        "            self._settling",
    ),
    _mutant("10", "an empty queue proves delivery", OUTBOX, "        if self._failure:", "        if False:"),
    _mutant(
        "10",
        "what waits for a later transaction is finished",
        DELIVERY,
        "            self._held += outcomes\n            self._stage_held()",
        "            self._held += outcomes\n            self._stage_held()\n            _mark_sent(self._held)",
        narrow=True,
        exactly_once=True,
    ),
    _mutant(
        "10",
        "offsets outside the transaction",
        DELIVERY,
        "            self._send_offsets(fitting)\n",
        "",
        Patch(
            DELIVERY,
            "        self._maps.ended(True)\n",
            "        consumer.commit(offsets=_as_offsets(points), asynchronous=False)\n"
            "        self._maps.ended(True)\n",
        ),
    ),
    _mutant(
        "10",
        "the member of the moment in the transaction",
        DELIVERY,
        "        self._producer.begin_transaction()",
        "        self._group = consumer.consumer_group_metadata()\n        self._producer.begin_transaction()",
    ),
    _mutant(
        "10",
        "no member in the transaction",
        DELIVERY,
        "        self._producer.begin_transaction()",
        '        self._group = b"CGMDv2:\\xff\\xff\\xff\\xffgroup\\0\\0\\1"\n'
        "        self._producer.begin_transaction()",
        exactly_once=True,
        freezes=True,
        workers=2,
        partitions=1,
        calls=False,
        deadly=False,
    ),
    _mutant(
        "10",
        "an assignment without a generation is taken",
        DELIVERY,
        "if not consumer.memberid():",
        "if False:",
        **{"topics": 1, "partitions": 1, "workers": 2, "exactly_once": True, "quirks": True, "rebalances": True}
        | dict.fromkeys(("static", "crashes", "freezes", "faults", "odd", "evictions", "tight", "loss"), False)
        | dict.fromkeys(("destruction", "transactions", "small_queue", "unequal", "overflows", "deadly"), False),
    ),
    _mutant(
        "10",
        "goes on after an aborted transaction",
        DELIVERY,
        "        if self._answer:\n            self._transact(consumer, points)",
        "        try:\n            self._transact(consumer, points) if self._answer else None\n"
        "        except DeliveryFailed:\n            self._settled, self.backlog = [], Backlog()",
    ),
)

REBALANCES = (
    _mutant(
        "11",
        "a revoke commits after a failure",
        LOOP,
        "failure = self.assignment.failure = self.assignment.failure or error",
        "failure = error",
        Patch(LOOP, "            self.assignment.forget()\n", ""),
    ),
    _mutant(
        "11",
        "a revoke does not commit",
        ASSIGNMENT,
        "if self.owned.partitions and not self.failure:",
        "if False:",
        rebalances=True,
        workers=2,
        crashes=False,
        faults=False,
        freezes=False,
        topics=1,
        exactly_once=False,
        calls=False,
        deadly=False,
    ),
    _mutant(
        "11",
        "a stop does not commit",
        ASSIGNMENT,
        "if self.owned.partitions:",
        "if False:",
        rebalances=True,
        crashes=False,
        faults=False,
        freezes=False,
        topics=1,
        exactly_once=False,
        calls=False,
        deadly=False,
        destruction=False,
    ),
    _mutant(
        "13",
        "in an outage nothing makes room",
        DISPATCHER,
        "if self._probing.holds_some:",
        "if self._probing.is_open:",
    ),
    _mutant(
        "11",
        "outcomes of old assignments are taken",
        DISPATCHER,
        "        self._attempts.clear(but=self._overtime.late)",
        "        self._is_cancelled = False\n        return",
    ),
    _mutant(
        "11",
        "results of old assignments are sent",
        COMMITS,
        "self.delivery.drop()",
        "pass",
        **_QUIET | {"exactly_once": True, "workers": 2, "rebalances": True},
        **dict.fromkeys(("calls", "deadly", "tight"), False),
    ),
    _mutant("11", "fragments of old assignments wait on", WAITING, "self.groups.clear()", "pass"),
    _mutant(
        "11",
        "lost partitions are not forgotten",
        ASSIGNMENT,
        'logger.warning("partitions lost")\n        self.forget()',
        'logger.warning("partitions lost")',
        freezes=True,
        rebalances=True,
        workers=2,
        calls=False,
        deadly=False,
    ),
    _mutant("11", "no rewind after a rebalance within a read", INTAKE, "            self.owned.rewind(records)\n", ""),
    _mutant(
        "11",
        "a rebalance within a read is not noticed",
        INTAKE,
        "            self.owned.rewind(records)\n            return []",
        "            return [each for each in records if (each.topic(), each.partition()) in self.owned.partitions]",
    ),
    _mutant(
        "12",
        "an exception leaves a callback",
        ASSIGNMENT,
        "            on_assign=guarded(self._unless_over(self._on_assign), self.fail),\n"
        "            on_revoke=guarded(self._unless_over(self._on_revoke), self.fail),\n",
        "            on_assign=self._unless_over(self._on_assign),\n"
        "            on_revoke=self._unless_over(self._on_revoke),\n",
    ),
)

SUSPECTED = (
    _mutant(
        "13", "groups never run apart", SUSPECTS, "each.suspicion.starts_without_progress > STARTS", "False", **_DEADLY
    ),
    _mutant(
        "13",
        "starts are not counted",
        SUSPICION,
        "self.starts_without_progress = starts + 1",
        "self.starts_without_progress = 1",
        **_DEADLY,
    ),
    _mutant(
        "13",
        "starts are forgotten before all was read",
        OWNED,
        "if all(each.has_read_all for each in self.partitions.values()):",
        "if True:",
        **_DEADLY,
    ),
    _mutant(
        "13",
        "starts are forgotten though something was called",
        SUSPICION,
        "if self.first_called is None and not (self.batch_size or self.held_some_back):",
        "if not (self.batch_size or self.held_some_back):",
        **_DEADLY,
    ),
    _mutant(
        "13",
        "who was run alone is run again",
        SUSPECTS,
        "groups = self._without_guilty(groups)",
        "pass",
        **_DEADLY,
    ),
    _mutant(
        "13",
        "who runs among others is named",
        SUSPICION,
        "self.first_of_batch if self.batch_size == 1 else None",
        "self.first_of_batch if self.batch_size else None",
        **_DEADLY,
    ),
    _mutant(
        "13",
        "who runs alone is not named",
        SUSPICION,
        "self.first_of_batch if self.batch_size == 1 else None",
        "None",
        **_DEADLY,
    ),
    _mutant(
        "13",
        "who runs alone does not wait for the commit",
        SUSPECTS,
        "self._is_running = all(each.offsets.suspicion.may_run(each.offset) for each in self._batch[0].fragments)",
        "self._is_running = True",
        **_DEADLY,
    ),
    _mutant(
        "13",
        "what waits for its next attempt holds up those that run apart",
        SUSPECTS,
        "return not self._executor.in_flight or self._executor.rests_for is not None",
        "return not self._executor.in_flight",
        **_CALLS | {"deadly": True},
    ),
    _mutant(
        "13",
        "the end of the others ends the running apart",
        SUSPECTS,
        "        if self._batch:\n            first =",
        "        if not self._batch and self._aside.groups:\n            self._end()\n"
        "        if self._batch:\n            first =",
        **_CALLS | {"deadly": True, "slow": True},
    ),
    _mutant(
        "13",
        "in an outage none is waited for",
        SUSPECTS,
        "return not self._executor.in_flight or self._executor.rests_for is not None",
        "return not self._executor.in_flight or self._executor.circuit_open_for is not None",
        **_CALLS | {"deadly": True, "odd": True},
    ),
    _mutant(
        "13",
        "what a probe has shown is taken to hold for two",
        SUSPECTS,
        "self._size *= 2 if waits < len(self._batch) and not self._is_probe else 1",
        "self._size *= 2 if waits < len(self._batch) else 1",
        **_CALLS | {"deadly": True, "odd": True, "workers": 2},
    ),
    _mutant(
        "13",
        "what was put aside has its turn never",
        SUSPECTS,
        "while self._aside.rest_some and len(self._batch) < size and not self._held:",
        "while False:",
        **_CALLS | {"deadly": True},
    ),
    _mutant(
        "13",
        "what comes later is progress",
        SUSPICION,
        "if self.first_called is None or is_finished(self.first_called):",
        "if True:",
        **_CALLS | {"deadly": True, "odd": True},
    ),
    _mutant(
        "13",
        "who is called is taken for one that rests",
        SUSPECTS,
        "elif (self._executor.rests_for or 0.0) > LONG and not self._executor.calls():",
        "else:",
        **_CALLS | {"deadly": True, "odd": True},
    ),
    _mutant(
        "13",
        "what hangs is given up at once",
        OVERTIME,
        "        if due is None:",
        "        if True:",
        **_CALLS | {"many_calls": False},
    ),
    _mutant(
        "13",
        "a call that hangs over a rebalance is waited for",
        ORDER,
        "    return one.id == other.id and not",
        "    return False and not",
        **_CALLS | {"many_calls": True, "workers": 2, "rebalances": True},
    ),
    _mutant(
        "13",
        "the attempts of what hung are forgotten",
        SUSPECTS,
        "            self._recall(groups)",
        "            pass",
        **_CALLS | {"many_calls": False},
    ),
    _mutant(
        "13", "none is run alone", SUSPECTS, "            self._size = 1\n", "            self._size = 2\n", **_DEADLY
    ),
    _mutant(
        "13",
        "an end in order leaves who ran alone named",
        OFFSETS,
        "self.suspicion.end_in_order(is_idle=is_idle, has_read_all=self.position >= self.loaded_end)",
        "pass",
        **_DEADLY | {"rebalances": True},
    ),
    _mutant(
        "13",
        "an end in order forgets the starts of who did not run",
        SUSPICION,
        "has_read_all and not self.held_some_back",
        "has_read_all",
        **_DEADLY | {"workers": 3, "partitions": 2},
    ),
    _mutant(
        "13",
        "a stop whose commit has failed leaves the one before",
        COMMITS,
        "return self._unanswered and again < deadline",
        "return False",
        **_DEADLY | {"faults": True, "calls": True, "rebalances": True, "topics": 1, "partitions": 1, "workers": 1},
        **dict.fromkeys(("exactly_once", "overflows", "crowded", "large", "many_calls", "rows", "narrow"), False),
        **dict.fromkeys(("odd", "quirks", "slow", "small_queue", "discards"), False),
        **dict.fromkeys(("pauses", "evictions", "transactions"), False),
    ),
    _mutant(
        "13",
        "all is sent at once",
        PACE,
        "self.size = FIRST",
        "self.size = self._most = 1 << 40",
        narrow=True,
        large=False,
        overflows=False,
    ),
)

BEGINNINGS = (
    _mutant(
        "14",
        "a new group reads from the end",
        LOCATOR,
        "offsets_at(consumer, led, EARLIEST)",
        "offsets_at(consumer, led, LATEST)",
    ),
    _mutant(
        "14",
        "a topic made again is read on",
        INTAKE,
        "return bool(self._identities.made_again(self.owned.partitions.values(), now))",
        "return False",
        destruction=True,
    ),
    _mutant(
        "14",
        "out of range is not mended",
        LOCATOR,
        "        if offsets.position > latest:",
        "        if offsets:\n            return offsets\n        if offsets.position > latest:",
        Patch(OWNED, "            if offsets.position >= earliest:", "            if offsets:"),
    ),
    _mutant(
        "14",
        "a topic without a commit counts as new",
        LOCATOR,
        "return bool(joined) and not any(each.names(topic) for each in joined)",
        "return bool(self._commits) and all(at[0] != topic for at in self._commits)",
    ),
)

ROWS = (
    _mutant(
        "8",
        "what a static member gets is not held against the row",
        MEMBERSHIP,
        'return misfit(owned, partitions) if self._may_be_former else ""',
        'return ""',
        rows=True,
        static=True,
    ),
    _mutant(
        "8",
        "a member with the partitions of another row does not leave the group",
        LOOP,
        "if isinstance(failure, AssignmentOutdated):",
        "if False:",
        rows=True,
        static=True,
    ),
    _mutant(
        "14",
        "a topic that was added is read from its end",
        LOCATOR,
        "start = end if start < 0 else start",
        "start = end",
        rows=True,
    ),
    _mutant(
        "8",
        "a row by which no worker can even begin ends the process",
        REFRESH,
        "if not self._before or self._counters.commits > self._commits or self.current.row == self._shared:",
        "if True:",
        rows=True,
    ),
    _mutant(
        "8",
        "the row before is one by which no worker has worked",
        REFRESH,
        "if not self._before or self._counters.commits > self._commits:  # else",
        "if True:  # else",
        **_QUIET | {"rows": True, "workers": 1, "partitions": 1, "calls": False, "rebalances": False},
    ),
    _mutant(
        "8",
        "a row that others work by stays withdrawn",
        REFRESH,
        "self._shared, self._withdrawn = self._withdrawn.config.row, None",
        "pass",
        rows=True,
        workers=2,
    ),
    _mutant(
        "14",
        "an older row is worked by though others have a newer one",
        LOCATOR,
        "if known and others >= ours:",
        "if False:",
        rows=True,
        workers=3,
    ),
)

_OUTAGES = _CALLS | {"odd": True, "small_queue": False, "discards": False}
_CROWDED = {"crowded": True, "overflows": False, "strict": False}

SURROUNDINGS = (
    _mutant(
        "3",
        "a commit is as large as its maps make it",
        LIMITS,
        "while size > min(_REQUEST, self.batch // 2) and lengths",
        "while False and lengths",
        **_CROWDED,
    ),
    _mutant(
        "13",
        "a header that cannot be read ends the worker",
        MESSAGES,
        "        except Exception as error:",
        "        except KeyError as error:",
        foreign=True,
    ),
    _mutant(
        "13",
        "what the client cannot read is joined without it",
        BATCHES,
        "return Contents(values, headers, timestamps, without_time | without_headers | without_value)",
        "return Contents(values, headers, timestamps, without_value)",
        foreign=True,
    ),
    _mutant(
        "12",
        "an assignment that fails at last is taken for one",
        ASSIGNMENT,
        "                consumer.assign([])\n            raise",
        "                consumer.assign([])\n            if not self.owned.partitions:\n                raise",
        faults=True,
    ),
    _mutant(
        "6",
        "an arrival may be in the future",
        LOOP,
        "min(of.first_arrival(offset, ms / 1000, epoch), now)",
        "of.first_arrival(offset, ms / 1000, epoch)",
        hours=True,
        evictions=True,
        tight=False,
    ),
    _mutant(
        "6",
        "a clock that was set back breaks the steps of a map",
        PACKING,
        "max(time_ms // 100 - tenths[0], 0)",
        "time_ms // 100 - tenths[0]",
        hours=True,
    ),
    _mutant("9", "attempts in an outage count", ATTEMPTS, "self._failed[id] -= number", "pass", **_OUTAGES),
    _mutant(
        "9",
        "what was held in an outage is forgotten",
        DISPATCHER,
        "        self._start(held)",
        "        self._start(())",
        **_OUTAGES,
    ),
)

MUTANTS = (
    *OFFSETS_AND_MAPS,
    *JOINING,
    *IN_STEPS,
    *MEMORY,
    *PROCESS_AND_DELIVER,
    *REBALANCES,
    *SUSPECTED,
    *BEGINNINGS,
    *ROWS,
    *SURROUNDINGS,
)


def look_for(mutant: Mutant, schedules: int, seed: int) -> tuple[int | None, str]:
    """After how many schedules a promise was broken that is kept without the mutant, and which; None: it was not."""

    def run(schedule: Schedule) -> Counter[str]:
        try:
            with mutant.planted():
                return notes_of(schedule)
        except Violation as violation:
            if breaks_anyway(schedule):
                return Counter()
            if isinstance(violation.__cause__, TypeError | NameError | AttributeError):
                raise ValueError(f"the mutant no longer fits the code: {violation}") from violation
            raise

    found = explore(schedules, seed, run, fixed=mutant.fixed)
    return (found.runs, str(found.violation)) if found.violation else (None, "")


def breaks_anyway(schedule: Schedule) -> bool:
    try:
        notes_of(schedule)
    except Violation:
        return True
    return False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pattern", nargs="?", default="", help="only those whose rule or name contains it")
    parser.add_argument("--schedules", type=int, default=SCHEDULES)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    settle_down()
    missed = 0
    for mutant in MUTANTS:
        name = f"rule {mutant.rule:2}  {mutant.what}"
        if arguments.pattern not in name:
            continue
        began = time.monotonic()
        runs, broken = look_for(mutant, arguments.schedules, arguments.seed)
        missed += runs is None
        result = "NOT FOUND" if runs is None else f"found after {runs}"
        print(f"{name:64} {result:18} {time.monotonic() - began:5.1f} s  {broken[:70]}", flush=True)
    print(f"{missed} of {len(MUTANTS)} not found" if missed else "all found")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
