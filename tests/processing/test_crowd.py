"""When reading on is in vain, for nearly all that comes waits behind its own id."""

from utils.processing.crowd import Crowd


def crowd(called: int, parked: int, batches: int = 10) -> Crowd:
    found = Crowd()
    for _ in range(batches):
        found.note(called + parked, parked)
    return found


def test_a_few_ids_that_get_on_stop_reading() -> None:
    assert crowd(called=1, parked=99).stops_reading(moved=1, now=0.0)
    assert crowd(called=6, parked=94).stops_reading(moved=1, now=0.0)
    assert not crowd(called=7, parked=93).stops_reading(moved=1, now=0.0), "others wait behind them in the log"


def test_an_id_that_rests_or_hangs_does_not() -> None:
    hot = crowd(called=1, parked=99)
    assert not hot.stops_reading(moved=0, now=0.0), "none has been called"
    assert hot.stops_reading(moved=1, now=10.0)
    assert hot.stops_reading(moved=1, now=14.0)
    assert not hot.stops_reading(moved=1, now=15.0)
    assert hot.stops_reading(moved=2, now=16.0)


def test_a_few_groups_tell_nothing() -> None:
    assert not crowd(called=0, parked=99, batches=1).stops_reading(moved=1, now=0.0)


def test_what_came_long_ago_counts_no_more() -> None:
    changed = crowd(called=1, parked=99, batches=100)
    for _ in range(30):
        changed.note(100, 50)
    assert not changed.stops_reading(moved=1, now=0.0)
