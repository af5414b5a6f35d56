"""Where the parts of a graph are drawn."""

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from utils.fleet.layout import HEIGHT, LANE, MARGIN, WIDTH, Edge, Layout, circles, layout

NAMES = "abcdefgh"
EDGES = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)).filter(lambda each: each[0] != each[1]))


def of(*edges: str, alone: str = "") -> Layout:
    """Edges as `ab`."""
    return layout({*"".join(edges), *alone}, [(each[0], each[1]) for each in edges])


def columns(drawn: Layout) -> list[str]:
    """The names from left to right; those of a layer in order."""
    xs = sorted({x for x, _ in drawn.places.values()})
    return ["".join(sorted(name for name, place in drawn.places.items() if place[0] == x)) for x in xs]


def test_a_chain_goes_from_left_to_right_in_a_straight_line() -> None:
    drawn = of("ab", "bc", "cd")
    assert columns(drawn) == ["a", "b", "c", "d"]
    assert len({y for _, y in drawn.places.values()}) == 1


def test_what_is_joined_stands_behind_all_of_its_inputs() -> None:
    assert columns(of("ab", "bc", "cd", "xd")) == ["a", "b", "cx", "d"]


def test_an_edge_over_some_layers_passes_beside_what_stands_there() -> None:
    drawn = of("ab", "bc", "ac")
    passed = drawn.ways["a", "c"]
    assert passed
    assert all(abs(y - drawn.places["b"][1]) >= (HEIGHT + LANE) / 2 for _, y in passed)


def test_in_a_circle_one_edge_leads_back_below_all_others() -> None:
    drawn = of("ab", "bc", "ca")
    assert columns(drawn) == ["a", "b", "c"]
    assert drawn.back == {("c", "a")}
    assert min(y for _, y in drawn.ways["c", "a"]) > max(y for _, y in drawn.places.values()) + HEIGHT / 2
    assert circles("abc", [("a", "b"), ("b", "c"), ("c", "a")]) == [["a", "b", "c"]]


def test_a_circle_is_told_by_its_shortest_way() -> None:
    edges = [("s", "a"), ("a", "b"), ("b", "c"), ("a", "c"), ("c", "a")]
    assert circles("sabc", edges) == [["a", "c"]]
    assert circles("ab", [("a", "b")]) == []


def test_what_has_no_edges_to_the_rest_stands_beside_it() -> None:
    drawn = of("ab", "cd", alone="e")
    (a, _), (c, _) = drawn.places["a"], drawn.places["c"]
    assert c > a
    assert drawn.places["e"][0] > c


def boxes(drawn: Layout) -> Sequence[tuple[float, float]]:
    return sorted(drawn.places.values())


def test_what_is_to_be_seen_first_stands_at_the_top() -> None:
    wide = [(f"{each}{at}", f"{each}{at + 1}") for each in "xyz" for at in range(9)]  # each fills a shelf of its own
    nodes = {each for edge in wide for each in edge}
    tops = [layout(nodes, wide, first).places for first in ([], ["z5"])]
    assert [[places[name][1] < places["z0"][1] for name in ("x0", "y0")] for places in tops] == [
        [True] * 2,
        [False] * 2,
    ]


@given(EDGES)
def test_no_two_nodes_lie_on_each_other_and_all_lie_in_the_picture(edges: list[Edge]) -> None:
    drawn = layout(NAMES, edges)
    assert drawn == layout(reversed(NAMES), edges[::-1]), "the same graph is drawn the same"
    places = boxes(drawn)
    for at, (x, y) in enumerate(places):
        assert x >= MARGIN
        assert y - HEIGHT / 2 >= MARGIN - 1e-6
        assert x + WIDTH <= drawn.width
        assert y + HEIGHT / 2 <= drawn.height
        for other_x, other_y in places[:at]:
            assert abs(other_x - x) >= WIDTH or abs(other_y - y) >= HEIGHT
    assert drawn.places.keys() == set(NAMES)
    assert drawn.ways.keys() == set(edges)


@given(EDGES)
def test_all_edges_but_those_of_circles_lead_to_the_right(edges: list[Edge]) -> None:
    drawn = layout(NAMES, edges)
    for source, target in set(edges):
        leads_right = drawn.places[source][0] < drawn.places[target][0]
        assert leads_right or (source, target) in drawn.back
    assert len(circles(NAMES, edges)) == len(drawn.back)
    for way in circles(NAMES, edges):
        assert set(pairwise([*way, way[0]])) <= set(edges)
