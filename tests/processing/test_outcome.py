"""What is made of what process() raises."""

import asyncio
from typing import Any

import pytest

from tests.builders import fragment, group
from utils.errors import Untold, named
from utils.processing.outcome import attempt, attempt_async
from utils.retry import Reject, Retry

GROUP = group("1", fragment())


def raising(*errors: BaseException) -> Any:
    async def process(_message: object, _name: str) -> None:
        async def fail(error: BaseException) -> None:
            raise error

        async with asyncio.TaskGroup() as tasks:
            for error in errors:
                tasks.create_task(fail(error))

    return process


@pytest.mark.parametrize(
    ("errors", "kind"),
    [
        ([KeyError("a")], KeyError),
        ([KeyError("a"), OSError()], KeyError),
        ([KeyError("a"), Retry("busy", after=30)], Retry),
        ([Retry("busy", after=30), Reject("never")], Reject),
    ],
)
def test_what_fails_in_a_task_group_is_told_and_obeyed_as_if_it_had_failed_alone(
    errors: list[BaseException], kind: type
) -> None:
    outcome = asyncio.run(attempt_async(raising(*errors), GROUP, "orders"))
    assert type(outcome.error) is kind
    assert outcome.error
    assert "at test_outcome.py:" in named(outcome.error)


def test_groups_of_groups_are_looked_through_and_one_that_cannot_be_looked_at_is_said_to_be_so() -> None:
    class Odd(ExceptionGroup[Exception]):
        @property
        def exceptions(self) -> Any:
            raise SystemExit

    def process(error: BaseException) -> Any:
        def call(_message: object, _name: str) -> None:
            raise error

        return call

    nested = ExceptionGroup("a", [ExceptionGroup("b", [ValueError("c")]), Retry()])
    assert isinstance(attempt(process(nested), GROUP, "orders").error, Retry)
    assert isinstance(attempt(process(Odd("d", [ValueError()])), GROUP, "orders").error, Untold)
