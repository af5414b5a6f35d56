"""A large record of a transaction leaves alone."""

from typing import Any

from utils.sending.alone import Alone


def sent(alone_from: int, *sizes: int) -> str:
    """What was put and waited for: a letter for each record, L for a large one, and | for a flush."""
    seen: list[str] = []

    def produce(_topic: str, value: bytes, _key: bytes, *_: int, **_options: Any) -> None:
        seen.append("L" if len(value) >= 100 else "s")

    def flush(_seconds: float) -> None:
        seen.append("|")

    alone = Alone(produce, flush, alone_from)
    for size in sizes:
        alone.put("out", b"x" * size, b"")
    alone.let_go()
    return "".join(seen)


def test_nothing_is_on_its_way_with_a_large_record() -> None:
    assert sent(100, 1, 1, 100, 1, 1, 200, 300, 1) == "ss|L|ss|L|L|s"


def test_of_small_ones_none_waits() -> None:
    assert sent(100, 1, 99, 1) == "sss"


def test_what_is_put_last_is_waited_for_before_what_is_known_to_be_small() -> None:
    assert sent(100, 1, 100) == "s|L|"


def test_where_none_is_large_none_waits() -> None:
    assert sent(0, 1, 100) == "sL"
