"""The end of an assignment takes as many commits as there is time for."""

from dataclasses import dataclass, field
from typing import cast

from tests.builders import group
from utils.processing.executor import Executor, Outcome
from utils.sending.delivery import Delivery
from utils.sending.drain import drain


@dataclass
class Slow:
    """A loop whose output takes one group in a commit. It is its executor and its delivery, too."""

    now: float = 0.0
    in_flight: int = 0
    pending: int = 3
    pause: float = 0.0
    is_safe: bool = True
    shutdown_timeout: float = 4.0
    delivered: list[Outcome] = field(default_factory=list)
    commits: int = 0

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
        self.in_flight -= 1
        return [Outcome(group(), [])]

    def commit(self, _deadline: float) -> float:
        self.commits += 1
        self.pending = max(self.pending - 1, 0)
        return self.pause

    def drain(self) -> None:
        drain(self, self.delivered.extend, lambda: self.is_safe, self.commit)


def test_what_runs_is_seen_through_and_all_is_committed() -> None:
    loop = Slow(in_flight=2)
    loop.drain()
    assert (len(loop.delivered), loop.commits, loop.pending) == (2, 3, 0)


def test_with_nothing_on_the_way_one_commit_is_made() -> None:
    loop = Slow(pending=0)
    loop.drain()
    assert loop.commits == 1


def test_what_is_not_safe_in_time_is_not_committed() -> None:
    loop = Slow(is_safe=False)
    loop.drain()
    assert loop.commits == 0


def test_the_broker_is_not_waited_for_beyond_the_time_out() -> None:
    loop = Slow(pause=5.0)
    loop.drain()
    assert loop.commits == 1
    loop = Slow(pending=1000)
    loop.drain()
    assert 1 < loop.commits < 50
