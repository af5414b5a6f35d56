"""The end of an assignment takes as many commits as there is time for."""

from dataclasses import dataclass, field
from typing import cast

import pytest

from tests.builders import group
from utils.processing.executor import Executor
from utils.processing.outcome import Outcome
from utils.sending.delivery import Delivery
from utils.sending.drain import drain


@dataclass
class Slow:
    """A loop whose output takes one group in a commit. It is its executor and its delivery, too."""

    now: float = 0.0
    in_flight: int = 0
    pending: int = 3
    hangs: bool = False
    pause: float = 0.0
    settles: list[float] = field(default_factory=list)
    safe_from: float = 0.0
    delivered: list[Outcome] = field(default_factory=list)
    commits: list[float] = field(default_factory=list)  # and when

    @property
    def executor(self) -> Executor:
        return cast(Executor, self)

    @executor.setter
    def executor(self, executor: Executor) -> None: ...

    @property
    def delivery(self) -> Delivery:
        return cast(Delivery, self)

    def clock(self) -> float:
        self.now += 0.1
        return self.now

    def cancel(self) -> None:
        pass

    def collect(self, _timeout: float) -> list[Outcome]:
        if self.hangs:
            return []
        self.in_flight -= 1
        return [Outcome(group(), [])]

    def finish_safe(self) -> bool:
        self.settles.append(self.now)
        return self.now >= self.safe_from

    def commit(self, _deadline: float) -> float:
        self.commits.append(self.now)
        self.pending = max(self.pending - (self.now >= self.safe_from), 0)
        return self.pause

    def drain(self) -> None:
        drain(self, 4.0, self.delivered.extend, self.finish_safe, self.commit)


def test_what_runs_is_seen_through_and_all_is_committed() -> None:
    loop = Slow(in_flight=2)
    loop.drain()
    assert (len(loop.delivered), len(loop.commits), loop.pending) == (2, 3, 0)


def test_with_nothing_on_the_way_one_commit_is_made() -> None:
    loop = Slow(pending=0)
    loop.drain()
    assert len(loop.commits) == 1


def test_a_call_that_does_not_end_leaves_time_for_what_has_ended_and_its_commit() -> None:
    loop = Slow(in_flight=1, hangs=True, pending=1, safe_from=3.3)
    loop.drain()
    assert (loop.pending, len(loop.commits)) == (0, 1)
    assert loop.commits[0] < 3.6
    assert loop.settles[0] < 0.5, "what is safe early is so before the end"


def test_what_is_not_safe_in_time_is_not_waited_for_and_told(caplog: pytest.LogCaptureFixture) -> None:
    loop = Slow(pending=2, safe_from=100.0)
    loop.drain()
    assert len(loop.commits) == 1
    assert 3.4 < loop.commits[0] < 3.8, "there is time for it"
    [line] = caplog.records
    assert (line.getMessage(), vars(line)["groups"]) == ("no time for all results: the next owner makes them again", 2)


def test_the_broker_is_not_waited_for_beyond_the_time_out() -> None:
    loop = Slow(pause=5.0)
    loop.drain()
    assert len(loop.commits) == 1
    loop = Slow(pending=1000)
    loop.drain()
    assert 1 < len(loop.commits) < 50
