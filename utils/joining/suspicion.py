"""Who is suspected of ending the process, as far as a partition tells: rule 13. Pure.

Told by processing/suspects.py, which runs groups apart, by the commits that say how that stands, and by the end of the
assignment.
"""

from collections.abc import Callable, Iterable
from itertools import islice
from typing import NamedTuple

MOST_HUNG = 32  # records of which a map says that their calls hung
BACK = -1  # in place of the offset of a record: lower than all of them, and so finished


class CrashRecord(NamedTuple):
    """What a partition says of starts that have shown nothing."""

    starts: int
    tried: int | None


class InCommit(NamedTuple):
    """What a commit says: see OffsetMap."""

    starts: int
    trying: int | None
    hung: tuple[tuple[int, int], ...]


class Said(NamedTuple):
    """What a commit of this assignment says, as far as somebody asks for it later."""

    first_of_batch: int | None = None
    has_finished: bool = False
    starts: int = 0
    named: int | None = None
    named_before: int | None = None  # by who had the partition before, as far as it is not finished

    @property
    def counts(self) -> bool:
        """It counts this start, or names a group that runs alone in it."""
        return self.starts > 0 or self.named != self.named_before


class Suspicion:
    """How one partition stands in one assignment.

    | state   | told by                   | its groups            | goes over to                                       |
    |---------|---------------------------|-----------------------|----------------------------------------------------|
    | watched | `starts_without_progress` | run as they come      | over: `note_finished`; waits: after several starts |
    | waits   | not `may_run`             | wait for a commit     | apart: when that is confirmed                      |
    | apart   | `may_run`                 | run, those of a batch | waits: with the next batch; over: after the last   |
    | over    | `is_over`                 | run as they come      | watched: in the next assignment                    |

    If the process ends in one of the first three, the next start counts as one more. If a group ran alone then, commits
    have named it, and it `ended_the_process`. A batch is of all partitions of the worker. What the map tells of earlier
    calls is kept here, too: as long as there is any of it, the partition is watched.
    """

    __slots__ = (
        "_confirmed",
        "_has_finished",
        "_said",
        "_unconfirmed",
        "batch_size",
        "first_called",
        "first_of_batch",
        "held_some_back",
        "hung",
        "left_behind_below",
        "ran_alone_at_the_end",
        "starts_without_progress",
    )

    def __init__(
        self,
        starts: int = 0,
        tried: int | None = None,
        hung: Iterable[tuple[int, int]] = (),
        left_behind: int = 0,
    ) -> None:
        """What the map that was loaded says; nothing where there is none.

        `left_behind`: below it, what was unfinished when the commit was made had been left behind by many others.
        """
        self.starts_without_progress = starts + 1  # in a row, this one too; an orderly end is none
        self.ran_alone_at_the_end = tried  # a record of that group, when the process before ended
        self.first_called: int | None = None  # a record of one of the groups that were given to process() first
        self.first_of_batch: int | None = None  # a record of the first group of those that are run apart
        self.batch_size = 0  # groups of the batch that was begun last; 0: none is run apart
        self.held_some_back = False  # groups that were to run apart have not run
        self._has_finished = False  # a record that was read has been, and the next commit says so
        self._said = self._confirmed = Said()  # by the last commit, and by the last one that was confirmed
        self._unconfirmed: set[Said] = set()  # that count this start, by commits after the one that was confirmed
        self.hung = dict(hung)  # records whose calls hung, and how many attempts had failed
        self.left_behind_below = left_behind  # 0: nothing is

    def go_on_as(self, before: CrashRecord) -> None:
        """The process that reads this partition has not ended since: its start is counted once."""
        self.starts_without_progress, self.ran_alone_at_the_end = before

    def live_on_as(self, before: CrashRecord) -> None:
        """The partition was lost, and came back to a process that has not ended since: its start is counted once.

        Not where another process has begun with it meanwhile: its commits count one more.
        """
        if self.starts_without_progress <= before.starts + 1:
            self.go_on_as(before._replace(starts=min(before.starts, self.starts_without_progress)))

    def note_all_read(self) -> None:
        """All that was there in the starts before was read. If nothing of it has been called by now, nothing of it has
        ended a process: it only waits for other parts, and those starts do not count.
        """
        if self.first_called is None and not (self.batch_size or self.held_some_back):
            self.starts_without_progress = min(self.starts_without_progress, 1)

    @property
    def crash_record(self) -> CrashRecord:
        return CrashRecord(self.starts_without_progress, self.ran_alone_at_the_end)

    @property
    def is_over(self) -> bool:
        """Whether groups need not be looked at before they run."""
        return not (self.starts_without_progress or self.ran_alone_at_the_end is not None or self.remembers)

    # ------------------------------------------------------------------ calls before, and first calls

    @property
    def remembers(self) -> bool:
        """Whether the map that was loaded tells of calls that failed."""
        return bool(self.hung or self.left_behind_below)

    def ended_the_process(self, offset: int) -> bool:
        """Whether the group with this record was the one that ran alone when the process ended."""
        return self.ran_alone_at_the_end == offset

    def attempts_that_hung(self, offset: int) -> int | None:
        """How many attempts of this record had failed; None: its calls did not hang."""
        return self.hung.get(offset)

    @property
    def names_no_more(self) -> bool:
        """Whether commits name as many records that hung as they can: of one more the next process would not know."""
        return len(self.hung) >= MOST_HUNG

    def note_hung(self, offset: int, attempts: int) -> None:
        """A call with this record hangs, so that the process ends; by now so many attempts have failed."""
        self.hung[offset] = attempts

    def was_left_behind(self, offset: int) -> bool:
        """Of a record that is read again: many that came later were finished before."""
        return offset < self.left_behind_below

    def has_read_left_behind(self, position: int) -> bool:
        """Whether reading has come to the end of that: what is read from there on has been left behind by nobody."""
        return position >= self.left_behind_below

    def forget_left_behind(self) -> None:
        self.left_behind_below = 0

    @property
    def awaits_first_call(self) -> bool:
        """Whether it is to be told which group is called first."""
        return self.starts_without_progress > 0 and self.first_called in (None, BACK)

    def note_called(self, offset: int) -> None:
        """A group with this record is given to process(). Only the first counts."""
        self.first_called = offset if self.first_called in (None, BACK) else self.first_called

    def note_all_back(self) -> None:
        """All calls have come back, and none is made for long: none of them has ended the process. What is called next
        is the first.
        """
        self.first_called = None if self.first_called is None else BACK

    # ------------------------------------------------------------------ batches that run apart

    def begin_batch(self, size: int, first: int | None) -> None:
        """So many groups are to run apart; `first`: the record of this partition in the first of them, if it has one.

        The next commits name that one if it is to run alone.
        """
        self.batch_size, self.first_of_batch = size, first

    def may_run(self, first: int) -> bool:
        """Whether a commit that was made since this batch was begun is confirmed."""
        return self.first_in_commit == first

    def end_batch(self) -> None:
        """All of it has ended, or was put aside: the next commits name none of it."""
        self.first_of_batch = None

    def note_held_back(self) -> None:
        """Groups that were to run apart will not run in this assignment."""
        self.held_some_back = True

    # ------------------------------------------------------------------ progress, and what commits say

    @property
    def first_in_commit(self) -> int | None:
        """What `first_of_batch` was in the last commit that was confirmed."""
        return self._confirmed.first_of_batch

    @property
    def has_progressed(self) -> bool:
        """Whether a record that was read has been finished by a commit that was confirmed."""
        return self._confirmed.has_finished

    @property
    def is_counted(self) -> bool:
        """Whether what is committed may count this start, or name a group that runs alone in it."""
        return self._confirmed.counts or bool(self._unconfirmed)

    def without_this_start(self, starts: int, named: int | None) -> tuple[int, int | None] | None:
        """What is committed, without this start: its count of starts, and whom it names. None: it does not count it.

        That is the last commit that is known to be confirmed, or one that was made after it: where a rebalance comes
        before the answer to one, and the last one fails, it is the one between.
        """
        for said in (*self._unconfirmed, self._confirmed):
            if said.counts and (starts, named) == (said.starts, said.named):
                return max(starts - 1, 0), said.named_before
        return None

    @property
    def has_news(self) -> bool:
        """Whether groups are to be run apart, after the next commit."""
        return self.first_of_batch != self.first_in_commit

    def note_finished(self, is_finished: Callable[[int], bool]) -> None:
        """A record is finished: this is progress. `is_finished`: of an offset.

        It ends the count of starts unless groups are run apart or held back, or one of the first is not finished: what
        came after it may be finished in each start, though it ends the process each time.
        """
        self._has_finished = True
        if not self.starts_without_progress or self.batch_size or self.held_some_back:
            return
        if self.first_called is None or is_finished(self.first_called):
            self.starts_without_progress = 0

    def in_commit(self, is_finished: Callable[[int], bool]) -> InCommit:
        """What the next commit says. `is_finished`: of an offset."""
        if self.ran_alone_at_the_end is not None and is_finished(self.ran_alone_at_the_end):
            self.ran_alone_at_the_end = None
        alone = self.first_of_batch if self.batch_size == 1 else None
        named = self.ran_alone_at_the_end if alone is None or is_finished(alone) else alone
        counts = self.starts_without_progress, named, self.ran_alone_at_the_end
        self._said = Said(self.first_of_batch, self._has_finished, *counts)
        if self._said.counts:
            self._unconfirmed.add(self._said)
        self.hung = {offset: number for offset, number in self.hung.items() if not is_finished(offset)}
        return InCommit(self.starts_without_progress, named, tuple(islice(self.hung.items(), MOST_HUNG)))

    def confirm(self) -> None:
        """The last commit has been confirmed."""
        self._confirmed = self._said
        self._unconfirmed.clear()

    # ------------------------------------------------------------------ the end of the assignment

    def begin_to_end(self) -> None:
        """In order: the process has not ended by what this assignment has called, and its start counts no more."""
        self.starts_without_progress = max(self.starts_without_progress - 1, 0)

    def end_in_order(self, *, is_idle: bool, has_read_all: bool) -> None:
        """None is run apart any more.

        The starts before are forgotten where nothing can end the process now: process() `is_idle`, all that was to be
        read again was (`has_read_all`), and no groups were held back.
        """
        self.batch_size, self.first_of_batch = 0, None
        if is_idle and has_read_all and not self.held_some_back:
            self.starts_without_progress = 0
