"""Counters and histograms: plain numbers that add up."""

from utils.metrics import BOUNDS, Counters, Histogram


def test_a_histogram_counts_by_upper_bound_and_cumulates() -> None:
    histogram = Histogram()
    for seconds in (0.0005, 0.001, 0.002, 50_000.0):
        histogram.add(seconds)
    counts, total = histogram.read()
    assert counts[:2] == [2, 3]
    assert counts[-2:] == [3, 4]
    assert len(counts) == len(BOUNDS) + 1
    assert total == 50_000.0035


def test_what_takes_minutes_or_hours_is_told_apart() -> None:
    """All above a minute was shown as a minute, where a call may last five, and an id wait for hours."""
    histogram = Histogram()
    for seconds in (100.0, 280.0, 1200.0, 3000.0, 7200.0, 40_000.0):
        histogram.add(seconds)
    counts, _ = histogram.read()
    assert counts[BOUNDS.index(60.0)] == 0
    assert [counts[BOUNDS.index(bound)] for bound in (120.0, 300.0, 1800.0, 3600.0, 14_400.0, 43_200.0)] == [
        *range(1, 7)
    ]


def test_of_many_together_one_at_most_was_slow() -> None:
    histogram = Histogram()
    histogram.add(0.2, 100)
    counts, total = histogram.read()
    assert counts[0] == counts[BOUNDS.index(0.1)] == 99
    assert counts[BOUNDS.index(0.25)] == counts[-1] == 100
    assert total == 0.2


def test_of_many_that_took_as_long_each_all_are_counted_there() -> None:
    histogram = Histogram()
    histogram.add_alike(0.2, 100)
    counts, total = histogram.read()
    assert counts[BOUNDS.index(0.1)] == 0
    assert counts[BOUNDS.index(0.25)] == counts[-1] == 100
    assert total == 20.0


def test_reading_a_histogram_twice_changes_nothing() -> None:
    histogram = Histogram()
    histogram.add(0.3)
    assert histogram.read() == histogram.read()


def test_what_was_given_up_is_counted_by_what_was_missing() -> None:
    counters = Counters()
    counters.count_evicted([["b"], ["b"], ["a", "c"]])
    assert counters.evicted == 3
    assert counters.evicted_without == {"b": 2, "a,c": 1}


def test_of_more_mixtures_than_anybody_looks_at_the_rest_is_counted_together() -> None:
    """Each was a series for ever: of twelve topics 4,094, of twenty a million."""
    counters = Counters()
    counters.expect([str(topic) for topic in range(20)], ())
    mixtures = [[str(one), str(other)] for one in range(20) for other in range(one)]
    counters.count_evicted([["7"], *mixtures])
    counters.count_evicted([["7"], *mixtures])
    assert len(counters.evicted_without) < 120
    assert (counters.evicted_without["7"], counters.evicted_without["1,0"]) == (2, 2)
    assert counters.evicted_without["(others)"] > 0
    assert counters.evicted_without.total() == counters.evicted == 2 * 191


def test_the_plain_numbers_go_into_a_log_line() -> None:
    logged = Counters(read=3).as_dict()
    assert logged["read"] == 3
    assert set(map(type, logged.values())) == {int}


def test_what_may_lack_several_topics_counts_from_zero_for_each_mixture() -> None:
    """An alert did not see the first ids that lacked two."""
    counters = Counters()
    counters.expect(("a", "b", "c"), ("incomplete",))
    assert counters.evicted_without == dict.fromkeys(("a", "b", "c", "a,b", "a,c", "b,c"), 0)
    assert counters.dead_letters == {"incomplete": 0}
    many = Counters()
    many.expect([f"t{number}" for number in range(40)], ())
    assert len(many.evicted_without) == 40
