"""Where the parts of a graph are drawn, from left to right: layers, the order in them, and the ways of the edges.

Pure: no Kafka, no HTML, no clock. The same graph is always drawn the same. (The usual steps for layered graphs: break
the circles, put each node behind all that lead to it, order the layers by the middle of their neighbours, and move the
nodes towards these.) A library that does it would be larger than all the rest of a worker.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

WIDTH, HEIGHT = 224.0, 44.0  # of a node
COLUMN = 290.0  # from the left of a layer to that of the next one
ROW, LANE = 58.0, 18.0  # between the middles of two nodes of a layer; where one of them is only passed by an edge
MARGIN = 12.0
GAP = 26.0  # between two parts of the graph that have no edge between them
SHELF = 1600.0  # small parts stand side by side up to this width, or that of the largest
SWEEPS = 8

Edge = tuple[str, str]
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Layout:
    width: float
    height: float
    places: Mapping[str, Point]  # the left of a node, and its middle
    ways: Mapping[Edge, tuple[Point, ...]]  # from the right of a node to the left of the next, through these points
    back: frozenset[Edge]  # those that lead back: without them there would be no circle


def layout(nodes: Iterable[str], edges: Iterable[Edge], first: Collection[str] = ()) -> Layout:
    """Edges are between these nodes; none of them leads from a node to itself.

    Parts of the graph with a node of `first` are at the top, else the larger ones.
    """
    names, all_edges = sorted(set(nodes)), sorted(set(edges))
    back = _back_edges(names, all_edges)
    forward = [each for each in all_edges if each not in back]
    layers = _layers(names, forward)
    places: dict[str, Point] = {}
    ways: dict[Edge, tuple[Point, ...]] = {}
    parts = [_Part(part, layers, forward, back) for part in _parts(names, all_edges)]
    parts.sort(key=lambda part: (part.names.isdisjoint(first), -part.height, min(part.names)))
    x = y = MARGIN
    widest, shelf = max([SHELF, *(part.width for part in parts)]), 0.0
    width = 0.0
    for part in parts:
        if x > MARGIN and x + part.width > widest:
            x, y, shelf = MARGIN, y + shelf + GAP, 0.0
        part.put(x, y, places, ways)
        width = max(width, x + part.width)
        x, shelf = x + part.width + COLUMN - WIDTH, max(shelf, part.height)
    return Layout(width + MARGIN, y + shelf + MARGIN, places, ways, frozenset(back))


def circles(nodes: Iterable[str], edges: Iterable[Edge]) -> list[list[str]]:
    """Each circle by one way around it: for each edge that leads back, the shortest way that it closes."""
    names, all_edges = sorted(set(nodes)), sorted(set(edges))
    follows = _followers(all_edges)
    found = []
    for source, target in sorted(_back_edges(names, all_edges)):
        before: dict[str, str] = {target: ""}
        queue = [target]
        while queue and source not in before:
            at = queue.pop(0)
            for each in follows.get(at, ()):
                if each not in before:
                    before[each] = at
                    queue.append(each)
        way, at = [source], before.get(source, "")
        while at:
            way.append(at)
            at = before[at]
        found.append(way[::-1])
    return found


def _followers(edges: Iterable[Edge]) -> dict[str, list[str]]:
    follows: dict[str, list[str]] = {}
    for source, target in edges:
        follows.setdefault(source, []).append(target)
    return follows


def _back_edges(names: Sequence[str], edges: Sequence[Edge]) -> set[Edge]:
    """Those that lead to a node from which one has come, going as deep as possible, sources first."""
    follows, reached = _followers(edges), {target for _, target in edges}
    back: set[Edge] = set()
    done: set[str] = set()
    for start in [each for each in names if each not in reached] + list(names):
        open_nodes: dict[str, None] = {}
        stack = [(start, False)]
        while stack:
            at, is_left = stack.pop()
            if is_left:
                open_nodes.pop(at)
                done.add(at)
                continue
            if at in done or at in open_nodes:
                continue
            open_nodes[at] = None
            stack.append((at, True))
            for each in reversed(follows.get(at, [])):
                if each in open_nodes:
                    back.add((at, each))
                elif each not in done:
                    stack.append((each, False))
    return back


def _layers(names: Sequence[str], edges: Sequence[Edge]) -> dict[str, int]:
    """Each behind all that lead to it; and what nothing leads to right before what it leads to."""
    follows = _followers(edges)
    waits_for = dict.fromkeys(names, 0)
    for _, target in edges:
        waits_for[target] += 1
    layers = {each: 0 for each in names if not waits_for[each]}
    queue = list(layers)
    while queue:
        at = queue.pop(0)
        for each in follows.get(at, ()):
            layers[each] = max(layers.get(each, 0), layers[at] + 1)
            waits_for[each] -= 1
            if not waits_for[each]:
                queue.append(each)
    reached = {target for _, target in edges}
    for each in names:
        if each not in reached and each in follows:
            layers[each] = min(layers[target] for target in follows[each]) - 1
    return layers


def _parts(names: Sequence[str], edges: Sequence[Edge]) -> list[set[str]]:
    """Sets of nodes between which there is no edge."""
    near: dict[str, list[str]] = {each: [] for each in names}
    for source, target in edges:
        near[source].append(target)
        near[target].append(source)
    parts: list[set[str]] = []
    seen: set[str] = set()
    for start in names:
        if start in seen:
            continue
        part, queue = {start}, [start]
        while queue:
            new = [each for each in near[queue.pop()] if each not in part]
            part.update(new)
            queue += new
        seen |= part
        parts.append(part)
    return parts


@dataclass(slots=True)
class _Stop:
    """A node in its layer, or the place where an edge passes one."""

    name: str
    layer: int
    y: float = 0.0
    left: "list[_Stop]" = field(default_factory=list)
    right: "list[_Stop]" = field(default_factory=list)

    @property
    def room(self) -> float:
        return ROW if self.name else LANE


class _Part:
    """Nodes that are connected, and the edges between them."""

    def __init__(self, names: set[str], layers: Mapping[str, int], edges: Sequence[Edge], back: set[Edge]) -> None:
        self.names = names
        self._back = sorted(each for each in back if each[0] in names)
        first = min(layers[each] for each in names)
        self._stops = {each: _Stop(each, layers[each] - first) for each in sorted(names)}
        self._ways: dict[Edge, list[_Stop]] = {}
        self._columns: list[list[_Stop]] = [[] for _ in range(max(each.layer for each in self._stops.values()) + 1)]
        for stop in self._stops.values():
            self._columns[stop.layer].append(stop)
        for edge in edges:
            if edge[0] in names:
                self._connect(edge)
        self._order()
        self._move()
        bottom = max(stop.y + stop.room / 2 for column in self._columns for stop in column)
        self.height = bottom + (LANE * (1 + len(self._back)) if self._back else 0.0)
        self.width = (len(self._columns) - 1) * COLUMN + WIDTH

    def _connect(self, edge: Edge) -> None:
        """Through a stop in each layer between."""
        way = [self._stops[edge[0]]]
        for layer in range(way[0].layer + 1, self._stops[edge[1]].layer):
            way.append(_Stop("", layer))
            self._columns[layer].append(way[-1])
        way.append(self._stops[edge[1]])
        for left, right in pairwise(way):
            left.right.append(right)
            right.left.append(left)
        self._ways[edge] = way

    def _order(self) -> None:
        """By the middle of their neighbours, to and fro: fewer edges cross."""
        for sweep in range(SWEEPS):
            columns = self._columns if sweep % 2 == 0 else self._columns[::-1]
            at = {id(stop): index for column in self._columns for index, stop in enumerate(column)}
            for column in columns:
                middles = {}
                for stop in column:
                    near = stop.left if sweep % 2 == 0 else stop.right
                    middles[id(stop)] = sum(at[id(each)] for each in near) / len(near) if near else at[id(stop)]
                column.sort(key=lambda stop: middles[id(stop)])
                at |= {id(stop): index for index, stop in enumerate(column)}

    def _move(self) -> None:
        """Towards the middle of their neighbours, as far as the order and the room of each allow."""
        for column in self._columns:
            _spread(column, [0.0] * len(column))
        for sweep in range(SWEEPS):
            for column in self._columns if sweep % 2 == 0 else self._columns[::-1]:
                wished = []
                for stop in column:
                    near = (stop.left if sweep % 2 == 0 else stop.right) or stop.left + stop.right
                    wished.append(sum(each.y for each in near) / len(near) if near else stop.y)
                _spread(column, wished)
        top = min(stop.y - stop.room / 2 for column in self._columns for stop in column)
        for column in self._columns:
            for stop in column:
                stop.y -= top

    def put(self, x: float, y: float, places: dict[str, Point], ways: dict[Edge, tuple[Point, ...]]) -> None:
        for name, stop in self._stops.items():
            places[name] = x + stop.layer * COLUMN, y + stop.y
        for edge, way in self._ways.items():
            between = [(x + stop.layer * COLUMN + part, y + stop.y) for stop in way[1:-1] for part in (0.0, WIDTH)]
            ways[edge] = tuple(between)
        for number, edge in enumerate(self._back):  # below all others
            ways[edge] = tuple(
                (x + self._stops[name].layer * COLUMN + aside, y + self.height - LANE * (number + 1))
                for name, aside in zip(edge, (WIDTH, 0.0), strict=True)
            )


def _spread(column: Sequence[_Stop], wished: Sequence[float]) -> None:
    """Each as near as possible to where it wants to be, in their order, with the room of each.

    (Least squares under an order: pool adjacent violators.)
    """
    offsets, total = [], 0.0
    for before, stop in zip([None, *column], column, strict=False):
        total += (before.room + stop.room) / 2 if before else 0.0
        offsets.append(total)
    blocks: list[tuple[float, int]] = []  # where its first one would be, and how many move as one
    for wish, offset in zip(wished, offsets, strict=True):
        blocks.append((wish - offset, 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (one, many), (other, more) = blocks[-2:]
            blocks[-2:] = [((one * many + other * more) / (many + more), many + more)]
    starts = [start for start, number in blocks for _ in range(number)]
    for stop, start, offset in zip(column, starts, offsets, strict=True):
        stop.y = start + offset
