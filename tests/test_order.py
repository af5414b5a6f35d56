"""The order in which processes take the tests that they share."""

from tests.order import Kind, mixed

MANY: dict[Kind, int] = {"waits": 40, "long": 20, "short": 400}


def kind(test: tuple[Kind, int]) -> Kind:
    return test[0]


def test_all_are_taken_and_those_of_a_kind_in_their_order() -> None:
    tests = [(each, number) for each, many in MANY.items() for number in range(many)]
    taken = mixed(tests, kind)
    assert sorted(taken) == sorted(tests)
    for each, many in MANY.items():
        assert [number for its, number in taken if its == each] == list(range(many))


def test_all_kinds_are_under_way_from_the_beginning_and_only_short_ones_are_left_for_the_end() -> None:
    taken = mixed([(each, number) for each, many in MANY.items() for number in range(many)], kind)
    total = len(taken)
    for part in range(1, 7):  # a tenth each
        some = [its for its, _ in taken[total * (part - 1) // 10 : total * part // 10]]
        assert {its: some.count(its) > 0 for its in MANY} == dict.fromkeys(MANY, True), part
    left = total - max(at for at, (its, _) in enumerate(taken) if its != "short")
    assert left > total / 10


def test_of_one_kind_alone_nothing_changes() -> None:
    assert mixed("cab", lambda _: "waits") == ["c", "a", "b"]
    assert mixed([], kind) == []
