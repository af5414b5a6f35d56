"""Who is suspected of ending the process, as far as a partition tells: rule 13. Pure.

Written by processing/suspects.py, which runs groups apart, and by the commits that say how that stands.
"""

from collections.abc import Callable, Iterable
from itertools import islice
from typing import NamedTuple

MOST_HUNG = 32  # records of which a map says that their calls hung


class CrashRecord(NamedTuple):
    """What a partition says of starts that have shown nothing."""

    starts: int
    tried: int | None


class InCommit(NamedTuple):
    """What a commit says: see OffsetMap."""

    starts: int
    trying: int | None
    hung: tuple[tuple[int, int], ...]


class Suspicion:
    __slots__ = (
        "_has_finished",
        "_in_commit",
        "apart",
        "first",
        "has_progressed",
        "holds_back",
        "hung",
        "left_behind",
        "noted",
        "starts",
        "tried",
        "trying",
    )

    def __init__(
        self,
        starts: int = 0,
        tried: int | None = None,
        hung: Iterable[tuple[int, int]] = (),
        left_behind: int = 0,
    ) -> None:
        """What the map that was loaded says; nothing where there is none."""
        self.starts = starts + 1  # in a row, this one too, without an orderly end or progress
        self.tried = tried  # the record of the group that was run alone when all ended
        self.first: int | None = None  # a record of one of the groups that were given to process() first
        self.trying: int | None = None  # of the first group of those that are run apart from the others
        self.apart = 0  # how many they are: commits name the one that is run alone
        self.holds_back = False  # groups that were to run apart have not run
        self.hung = dict(hung)  # records whose calls hung, and how many attempts had failed
        self.left_behind = left_behind
        """Below it, what was unfinished when the commit was made had been left behind by many others. 0: nothing is."""
        self.noted: int | None = None  # what `trying` was in the last commit that was confirmed
        self.has_progressed = False  # a record that was read has been finished by a commit that was confirmed
        self._has_finished = False  # one has been, and the next commit says so
        self._in_commit: tuple[int | None, bool] = None, False  # `trying` and `_has_finished`

    def go_on_as(self, before: CrashRecord) -> None:
        """The process that reads this partition has not ended since: its start is counted once."""
        self.starts, self.tried = before

    @property
    def crash_record(self) -> CrashRecord:
        return CrashRecord(self.starts, self.tried)

    @property
    def remembers(self) -> bool:
        """Whether the map that was loaded tells of calls that failed."""
        return bool(self.hung or self.left_behind)

    @property
    def has_news(self) -> bool:
        """Whether groups are to be run apart, after the next commit."""
        return self.trying != self.noted

    def note_called(self, offset: int) -> None:
        """A group with this record is given to process(). Only the first counts."""
        self.first = offset if self.first is None else self.first

    def note_finished(self, is_finished: Callable[[int], bool]) -> None:
        """A record is finished: this is progress. `is_finished`: of an offset.

        It ends the count of starts unless groups are run apart or held back, or one of the first is not finished: what
        came after it may be finished in each start, though it ends the process each time.
        """
        self._has_finished = True
        if self.starts and not (self.apart or self.holds_back) and (self.first is None or is_finished(self.first)):
            self.starts = 0

    def in_commit(self, is_finished: Callable[[int], bool]) -> InCommit:
        """What the next commit says. `is_finished`: of an offset."""
        if self.tried is not None and is_finished(self.tried):
            self.tried = None
        self._in_commit = self.trying, self._has_finished
        alone = self.trying if self.apart == 1 else None
        trying = self.tried if alone is None or is_finished(alone) else alone
        self.hung = {offset: number for offset, number in self.hung.items() if not is_finished(offset)}
        return InCommit(self.starts, trying, tuple(islice(self.hung.items(), MOST_HUNG)))

    def confirm(self) -> None:
        """The last commit has been confirmed."""
        self.noted, self.has_progressed = self._in_commit

    def begin_to_end(self) -> None:
        """In order: the process has not ended by what this assignment has called, and its start counts no more."""
        self.starts = max(self.starts - 1, 0)

    def end_in_order(self, *, is_idle: bool, has_read_all: bool) -> None:
        """None is run apart any more.

        The starts before are forgotten where nothing can end the process now: process() `is_idle`, all that was to be
        read again was (`has_read_all`), and no groups were held back.
        """
        self.apart, self.trying = 0, None
        if is_idle and has_read_all and not self.holds_back:
            self.starts = 0
