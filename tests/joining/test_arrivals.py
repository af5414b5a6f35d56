"""When what waits arrived, told by a few steps: to the second while that is short ago, and never too early."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from utils.joining.arrivals import RELATIVE, Arrivals, Step, halved, longer

DAY = 86_400


def nothing(_offset: int) -> int | None:
    return None


def all_of(*unfinished: int) -> Callable[[int], int | None]:
    return lambda offset: min((each for each in unfinished if each >= offset), default=None)


def test_what_is_read_between_two_notes_arrived_within_a_second_of_the_first() -> None:
    arrivals = Arrivals(0)
    arrivals.note(0, 100.0)
    arrivals.note(10, 105.0)
    assert arrivals.between(0) == arrivals.between(9) == (100.0, 101.0)
    assert arrivals.between(10) == arrivals.between(99) == (105.0, 106.0)


def test_where_nothing_was_read_between_two_notes_the_later_one_counts() -> None:
    arrivals = Arrivals(0)
    arrivals.note(0, 100.0)
    arrivals.note(0, 160.0)
    assert arrivals.between(0) == (160.0, 161.0)


def test_what_nothing_is_known_of_arrived_at_any_time() -> None:
    assert Arrivals(0).between(7) == (float("-inf"), float("inf"))
    assert Arrivals(10, [(5, 1_000)]).between(4) == (float("-inf"), float("inf"))


def test_below_the_end_of_the_map_it_speaks_and_above_it_what_was_read_since() -> None:
    arrivals = Arrivals(10, [(0, 205_000), (4, 208_000)])
    arrivals.note(2, 300.0)  # in the middle of the replay
    assert arrivals.between(3) == (205.0, 206.0)
    assert arrivals.between(9) == (208.0, 209.0)
    assert arrivals.between(10) == (300.0, 301.0)


def test_what_the_map_told_is_carried_on_until_it_is_finished() -> None:
    arrivals = Arrivals(10, [(0, -5_000), (4, 8_000)])
    arrivals.note(10, 20.0)
    assert arrivals.steps(all_of(3, 5, 11)) == [(0, -5_000), (4, 8_000), (10, 20_000)]
    arrivals.forget_below(5)
    assert arrivals.oldest_ms() == 8_000
    assert arrivals.steps(all_of(5, 11)) == [(4, 8_000), (10, 20_000)]
    arrivals.forget_below(11)
    assert arrivals.oldest_ms() == 20_000
    assert arrivals.steps(all_of(11)) == [(10, 20_000)]


def test_steps_in_which_nothing_is_unfinished_are_left_out() -> None:
    arrivals = Arrivals(0)
    for at in range(10):
        arrivals.note(at * 10, 100.0 + at)
    assert arrivals.steps(all_of(3, 55, 57, 99)) == [(0, 100_000), (50, 105_000), (90, 109_000)]
    assert arrivals.steps(nothing) == []


@given(st.lists(st.floats(1, 50), min_size=1, max_size=300), st.lists(st.floats(0, 1_000), min_size=1, max_size=5))
def test_longer_steps_give_nothing_up_too_early_and_hardly_later(pauses: list[float], times: list[float]) -> None:
    steps, now = [], 0
    for offset, pause in enumerate(pauses):
        now += int(pause * 1000)
        steps.append((offset, now))
    fewer = steps
    for passed in times:
        now += int(passed * 1000)
        fewer = longer(fewer, now)
    assert [time for _, time in fewer] == sorted({time for _, time in fewer})
    told = Arrivals(len(steps), fewer)
    for offset, time in steps:
        late = told.between(offset)[0] * 1000 - time
        assert -0.001 <= late <= (now - time) / RELATIVE + 0.001


def test_a_day_of_steps_takes_a_few_hundred_and_the_last_quarter_of_a_minute_is_kept_to_the_second() -> None:
    arrivals = Arrivals(0)
    for second in range(DAY):
        arrivals.note(second, float(second))
    steps = arrivals.steps(lambda offset: offset if offset < DAY else None)
    assert len(steps) < 450
    assert [time for _, time in steps][1 - RELATIVE :] == [(DAY - ago) * 1000 for ago in range(RELATIVE - 1, 0, -1)]
    late = [(DAY - second, arrivals.between(second)[0] - second) for second in range(0, DAY, 10)]
    assert all(0 <= seconds <= age / RELATIVE for age, seconds in late)


def test_halves_give_nothing_up_too_early() -> None:
    steps: list[Step] = [(0, 1), (10, 2), (20, 3), (30, 4), (40, 5)]
    assert halved(steps) == [(0, 2), (20, 4), (40, 5)]
