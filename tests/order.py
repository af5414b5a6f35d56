"""In which order processes that share the tests take them: mixed by what the tests need, so that none of it lies idle.

Pure: what a test is, is told by who asks.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Literal, TypeVar

T = TypeVar("T")
Kind = Literal["waits", "long", "short"]

ENDS: dict[Kind, float] = {"waits": 0.85, "long": 0.7, "short": 1.0}
"""The part of the run in which tests of a kind begin. At its end are short ones: no process is left alone with one."""


def mixed(tests: Iterable[T], kind: Callable[[T], Kind]) -> list[T]:
    """Those of each kind spread evenly, in the order in which they are.

    Ten tests that wait for a broker keep two cores half busy, and ten of the others keep them waiting (measured).
    """
    kinds = defaultdict[Kind, list[T]](list)
    for test in tests:
        kinds[kind(test)].append(test)
    placed = [
        (ENDS[each] * number / len(some), test) for each, some in kinds.items() for number, test in enumerate(some)
    ]
    return [test for _, test in sorted(placed, key=lambda place: place[0])]
