"""Which partitions are ahead, by what the groups lack."""

from utils.joining.ahead import Counts, ahead_of_siblings, hardly_waited_for, over_all_partitions, worth_waiting_for


def ahead(counts: Counts) -> set[tuple[int, int]]:
    """Where there is much left to be read of all."""
    return ahead_of_siblings(counts, counts)


def test_a_partition_is_ahead_when_hardly_any_group_of_its_number_waits_for_it() -> None:
    assert ahead({0: [2, 20], 1: [3, 20]}) == {(0, 0)}


def test_where_a_mate_may_be_in_any_partition_all_groups_count_for_all_of_them() -> None:
    waited_for = {0: [0, 6], 1: [1, 0]}
    assert ahead(waited_for) == {(0, 0), (1, 1)}
    assert ahead(over_all_partitions(waited_for, {0, 1, 2})) == set()
    assert ahead(over_all_partitions({0: [0, 6], 1: [0, 4]}, {0, 1, 2})) == {(0, 0), (0, 1), (0, 2)}


def test_those_are_hardly_waited_for_that_few_groups_lack_beside_the_others_of_any_number() -> None:
    owned = [(topic, number) for number in range(4) for topic in range(2)]
    waited_for = {0: [0, 20], 1: [3, 1], 2: [2, 0]}
    assert hardly_waited_for(waited_for, waited_for, owned) == {(0, 0), (1, 1), (0, 2), (1, 2), (0, 3), (1, 3)}
    assert hardly_waited_for({}, {}, owned) == set(owned)
    assert over_all_partitions({}, {0}) == {0: []}


def test_none_is_ahead_of_what_has_been_read_to_its_end() -> None:
    """Its groups may wait for what never comes: to hold it back would hold up all that comes from now on."""
    counts: Counts = {0: [2, 100], 1: [0, 50]}
    owned = [(topic, number) for number in range(2) for topic in range(2)]
    for unread, worth in (
        ({}, counts),
        ({(1, 0): 10}, counts),
        ({(1, 0): 9}, {0: [2, 0], 1: [0, 50]}),
        ({(1, 0): 0, (1, 1): 0}, {0: [2, 0], 1: [0, 0]}),
    ):
        assert worth_waiting_for(counts, unread) == worth
    worth = worth_waiting_for(counts, {(1, 0): 0})
    assert ahead_of_siblings(counts, worth) == {(0, 1)}
    assert hardly_waited_for(counts, worth, owned) == {(0, 0), (0, 1)}
    none = worth_waiting_for(counts, dict.fromkeys(owned, 0))
    assert ahead_of_siblings(counts, none) == hardly_waited_for(counts, none, owned) == set()


def test_what_is_left_is_held_against_the_groups_that_those_stand_for_that_were_counted() -> None:
    assert worth_waiting_for({0: [0, 100]}, {(1, 0): 99}, stands_for=10) == {0: [0, 0]}
    assert worth_waiting_for({0: [0, 100]}, {(1, 0): 100}, stands_for=10) == {0: [0, 100]}
