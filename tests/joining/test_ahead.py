"""Which partitions are ahead, by what the groups lack."""

from utils.joining.ahead import ahead_of_siblings, hardly_waited_for, over_all_partitions


def test_a_partition_is_ahead_when_hardly_any_group_of_its_number_waits_for_it() -> None:
    assert ahead_of_siblings({0: [2, 20], 1: [3, 20]}) == {(0, 0)}


def test_where_a_mate_may_be_in_any_partition_all_groups_count_for_all_of_them() -> None:
    waited_for = {0: [0, 6], 1: [1, 0]}
    assert ahead_of_siblings(waited_for) == {(0, 0), (1, 1)}
    assert ahead_of_siblings(over_all_partitions(waited_for, {0, 1, 2})) == set()
    assert ahead_of_siblings(over_all_partitions({0: [0, 6], 1: [0, 4]}, {0, 1, 2})) == {(0, 0), (0, 1), (0, 2)}


def test_those_are_hardly_waited_for_that_few_groups_lack_beside_the_others_of_any_number() -> None:
    owned = [(topic, number) for number in range(4) for topic in range(2)]
    waited_for = {0: [0, 20], 1: [3, 1], 2: [2, 0]}
    assert hardly_waited_for(waited_for, owned) == {(0, 0), (1, 1), (0, 2), (1, 2), (0, 3), (1, 3)}
    assert hardly_waited_for({}, owned) == set(owned)
    assert over_all_partitions({}, {0}) == {0: []}
