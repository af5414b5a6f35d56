"""What a group need not wait for any longer, beside transactions that hide the end of a partition."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from confluent_kafka import IsolationLevel
from confluent_kafka.admin import AdminClient

from tests.builders import partition_offsets
from tests.fakes import FakeAdmin
from utils.reading.evidence import Evidence

A = ("a", 0)
NEVER, TIMEOUT, NOW = float("-inf"), 60.0, 1_000.0


class Hiding(FakeAdmin):
    """Of five records an open transaction hides the last two."""

    def offset_of(self, at: tuple[str, int], spec: object, isolation: IsolationLevel | None) -> int:
        return 3 if isolation is IsolationLevel.READ_COMMITTED else 5


@pytest.mark.parametrize(
    ("read", "arrived_by"),
    [
        (2, NEVER),  # there is more that can be read
        (3, NOW - 2 * TIMEOUT),  # the rest is waited for, for MESSAGE_TIMEOUT once more
        (5, NOW - TIMEOUT),
    ],
)
def test_what_an_open_transaction_hides_is_waited_for_once_more(read: int, arrived_by: float) -> None:
    offsets = partition_offsets()
    for offset in range(read):
        offsets.read(offset)
    siblings = SimpleNamespace(may_be_elsewhere=lambda _now: False, are_together=lambda: True)
    owned = SimpleNamespace(partitions={A: offsets})
    evidence = Evidence(cast(AdminClient, Hiding()), cast(Any, owned), cast(Any, siblings))
    evidence.waited_enough(NOW, TIMEOUT)  # asks for the ends
    assert evidence.waited_enough(NOW, TIMEOUT)[A].arrived_by == arrived_by
