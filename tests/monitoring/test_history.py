"""The last minutes of a few numbers."""

from utils.monitoring.history import LENGTH, History, Sample, Series


def by_title(history: History) -> dict[str, list[float]]:
    return {series.title: list(series.values) for series in history.series()}


def test_counts_become_rates_between_two_samples() -> None:
    history = History()
    history.add(Sample(at=0, read=0, results=0, failed=0, waiting=3))
    history.add(Sample(at=5, read=50, results=20, failed=1, waiting=7))
    history.add(Sample(at=15, read=50, results=30, failed=1, waiting=0))
    charts = by_title(history)
    assert charts["messages in"] == [10, 0]
    assert charts["results out"] == [4, 1]
    assert charts["failed"] == [0.2, 0]
    assert charts["ids waiting"] == [3, 7, 0]


def test_what_is_taken_out_of_a_count_is_no_rate_below_zero() -> None:
    history = History()
    for results in (7, 4, 9):
        history.add(Sample(float(results != 7) + (results == 9), 0, results, 0, 0))
    assert by_title(history)["results out"] == [0, 5]


def test_the_latest_value_is_the_last_one() -> None:
    assert Series("t", "", (1, 2)).latest == 2


def test_two_samples_of_one_moment_make_no_rate() -> None:
    history = History()
    for read in (0, 5):
        history.add(Sample(1.0, read, 0, 0, 0))
    assert by_title(history)["messages in"] == []


def test_nothing_yet_is_nothing() -> None:
    assert all(series.values == () and series.latest == 0 for series in History().series())


def test_only_the_last_samples_are_kept() -> None:
    history = History()
    for number in range(LENGTH + 10):
        history.add(Sample(number, number * number, 0, 0, number))
    assert by_title(history)["ids waiting"][0] == 10
