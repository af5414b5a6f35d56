"""Whatever a call of a client raises, wherever the worker makes it: nothing is lost, and no message is blamed.

The call sites are not listed here: a run without a failure tells of each call by whom it is made. A step of the loop is
one, too.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any
from unittest.mock import patch

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from framework import Worker
from tests.simulation import clients, process
from tests.simulation.schedule import Action, Setup
from tests.simulation.world import World, model_time
from utils.joining.dead_letters import INCOMPLETE
from utils.running.supervision import RESTARTS

ROOT = Path(__file__).parents[2]
PROCESSES = 4  # as many as make a worker look for a message that ends the process
TURNS = 60  # of the loop, in which a worker that always fails must have ended
CLIENTS = {clients.FakeConsumer: Consumer, clients.FakeProducer: Producer, clients.FakeAdmin: AdminClient}
STEPS = [name for name in Worker.step.__code__.co_names if callable(getattr(Worker, name, None))]

Site = tuple[str, str, str]  # file and function of the worker, and what it calls


class Planted(Exception):
    """What nobody has expected."""


@dataclass
class Plan:
    """Counts the calls, and raises at the chosen ones."""

    seen: Counter[Site] = field(default_factory=Counter)
    site: Site | None = None
    number: int = 1  # which of its calls raises
    always: bool = False  # and all after it
    after: bool = False  # after the call has done its work
    error: Exception = field(default_factory=Planted)

    def meets(self, called: str, frame: FrameType) -> bool:
        path = Path(frame.f_code.co_filename)
        if path.parent != ROOT and ROOT / "utils" not in path.parents:
            return False  # the clients among themselves
        site = path.name, frame.f_code.co_name, called
        self.seen[site] += 1
        return site == self.site and (self.seen[site] >= self.number if self.always else self.seen[site] == self.number)

    def wrap(self, owner: type, name: str) -> Any:
        method = getattr(owner, name)

        def call(*arguments: Any, **options: Any) -> Any:
            raises = self.meets(f"{owner.__name__}.{name}", sys._getframe(1))
            if raises and not self.after:
                raise self.error
            result = method(*arguments, **options)
            if raises:
                raise self.error
            return result

        return patch.object(owner, name, call)

    @contextmanager
    def wrapped(self) -> Iterator[None]:
        with ExitStack() as stack:
            for owner, client in CLIENTS.items():
                for name in vars(owner):
                    if hasattr(client, name) and not name.startswith("_"):
                        stack.enter_context(self.wrap(owner, name))
            for name in STEPS:
                stack.enter_context(self.wrap(Worker, name))
            stack.enter_context(patch.object(process, "EXPECTED", (*process.EXPECTED, Planted)))
            yield


SETUPS = {
    "at least once": Setup(tight=True, alike=True, overflows=True),
    "exactly once": Setup(partitions=2, evictions=True, overflows=True, exactly_once=True),
}
FAILED = KafkaException(KafkaError(KafkaError._FAIL))
KINDS: dict[str, Callable[[Site, int], "Plan"]] = {
    "at the first call": lambda site, _: Plan(site=site),
    "after a call in the middle": lambda site, times: Plan(site=site, number=times // 2 + 1, after=True),
    "as the client does": lambda site, times: Plan(site=site, number=times // 2 + 1, error=FAILED),
    "always": lambda site, _: Plan(site=site, always=True),
}
STEPPING = [Action("step"), Action("time")] * 4
ACTIONS = [
    *STEPPING,
    *[Action("feed all", 0, how) for how in (0, 1, 2, 5, 6)],
    *[Action("burst", 0, 6)] * 2,
    *STEPPING,
    Action("rebalance"),
    *STEPPING,
    *[Action("mate")] * 3,
    *STEPPING,
    Action("stop"),
    *STEPPING,
    Action("start"),
    *STEPPING,
    *[Action("mate")] * 60,
]


def run(setup: Setup, plan: Plan) -> World:
    """Raises Violation for a promise that was broken: something lost or, exactly once, doubled."""
    world = World(setup)
    with model_time(setup), plan.wrapped():
        if plan.always:
            until_it_gives_up(world, plan)
        world.run(tuple(ACTIONS))
    return world


def until_it_gives_up(world: World, plan: Plan) -> None:
    """So many processes in turn that fail always, if they meet the call at all; then they do no more."""
    for how in range(4):
        world._act(Action("feed all", 0, how))
    for _ in range(PROCESSES):
        world._start(0, 0)
        failing, turns = world._processes[0], 0
        while not failing.ended and turns < TURNS:
            failing.resume(0)
            world.advance(0.5)
            turns += 1
        if not failing.ended:  # it does not make that call, or goes on in spite of it
            assert not failing.restarts or (failing.worker and failing.worker.intake.owned.has_progressed), "on and on"
            failing.kill()
            break
        assert failing.error is plan.error
        assert failing.counters.restarts == RESTARTS
    plan.site = None


def sites(setup: Setup) -> Counter[Site]:
    plan = Plan()
    run(setup, plan)
    return plan.seen


def blamed(world: World) -> int:
    """How many fragments are in dead letters, those that had no mate aside."""
    reasons = sum(world.oracle.letters.values(), Counter[str]())
    return reasons.total() - reasons[INCOMPLETE]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SETUPS)
def test_whatever_a_call_raises_nothing_is_lost_and_no_message_is_blamed(name: str, kind: str) -> None:
    setup, found = SETUPS[name], []
    expected = sites(setup)
    assert len(expected) > 20, "the calls are not found any more"
    for site, times in expected.items():
        try:
            if number := blamed(run(setup, KINDS[kind](site, times))):
                found.append(f"{site}: {number} are blamed")
        except AssertionError as error:
            found.append(f"{site}: {error!r}")
    assert not found, "\n".join(found)
