"""The model held against a real broker, step by step; and that a wrong model is found so."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from unittest.mock import patch

import pytest

from tests.services.kafka import KafkaBroker
from tests.simulation import broker
from tests.simulation.broker import Group, Log, Transaction
from tests.simulation.comparison import AT_ONCE, Disagreement, Schedule, Step, compare, draw

SCHEDULES = 10
SHORT = 0.3  # seconds: what the model has wrong stays wrong


def test_the_model_tells_what_a_real_broker_tells_after_each_step(real_kafka: KafkaBroker) -> None:
    schedules = [draw(f"kept:{number}") for number in range(SCHEDULES)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        compared = sum(each.total() for each in pool.map(partial(compare, real_kafka.bootstrap), schedules))
    assert compared >= SCHEDULES * 10


def takes_any_generation(refusal: Callable[..., int | None]) -> Callable[..., int | None]:
    def wrong(group: Group, member_id: str, instance: str, _generation: int, **options: Any) -> int | None:
        return refusal(group, member_id, instance, group.generation, **options)

    return wrong


def refuses_whoever_is_no_member(_refusal: object) -> Callable[..., int | None]:
    return lambda group, member_id, *_, **__: None if member_id in group.members else 25


def writes_no_marker(_mark: object) -> Callable[..., None]:
    def wrong(log: Log, transaction: Transaction, now: float) -> None:
        del log._open[transaction]
        log._note_stable(now)

    return wrong


def keeps_offsets(_forget: object) -> Callable[..., None]:
    return lambda _group, _topic: None


def forgets_when_it_was_written(commit: Callable[..., int | None]) -> Callable[..., int | None]:
    return lambda group, at, committed, _written=0: commit(group, at, committed)


JOIN, INIT, BEGIN = Step("join"), Step("init"), Step("begin")
SEND, ABORT = Step("send"), Step("end")


@pytest.mark.parametrize(
    ("owner", "name", "wrong", "steps"),
    [
        pytest.param(Group, "refusal", takes_any_generation, [JOIN, Step("commit as", how=2)], id="generation"),
        pytest.param(Group, "refusal", refuses_whoever_is_no_member, [Step("commit", who=3)], id="unfenced"),
        pytest.param(Log, "mark", writes_no_marker, [INIT, BEGIN, SEND, ABORT], id="marker"),
        pytest.param(Group, "forget", keeps_offsets, [Step("commit", who=3), Step("again")], id="topic made again"),
        pytest.param(
            Group,
            "commit",
            forgets_when_it_was_written,
            [INIT, BEGIN, Step("offsets", who=3), Step("commit", who=3), Step("end", how=1)],
            id="a later commit stays",
        ),
        pytest.param(broker, "METADATA_LIMIT", lambda limit: limit - 1, [JOIN, Step("commit", how=4)], id="4,095 do"),
        pytest.param(broker, "METADATA_LIMIT", lambda limit: limit + 1, [JOIN, Step("commit", how=5)], id="4,096 not"),
    ],
)
def test_a_model_that_is_wrong_is_found(
    real_kafka: KafkaBroker, owner: Any, name: str, wrong: Callable[[Any], Any], steps: list[Step]
) -> None:
    schedule = Schedule((1,), (False, False, False), False, tuple(steps))
    compare(real_kafka.bootstrap, schedule)
    with patch.object(owner, name, wrong(getattr(owner, name))), pytest.raises(Disagreement) as raised:
        compare(real_kafka.bootstrap, schedule, SHORT)
    assert raised.value.schedule == schedule  # the last step shows it
