"""The page of a fleet: what was seen of all consumers, as one document with a picture of how they are connected.

Pure text: no HTTP, no clock, nothing is asked of anybody. It needs no network and no script. It looks like the status
page of a worker, and what comes from outside goes through `shown` or `escape`, as there.
"""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from math import log10

from utils.fleet.layout import HEIGHT, WIDTH, Layout, Point, circles, layout
from utils.fleet.verdicts import BEHIND, LEVELS, STILL, ConsumerSeen, Level, MemberSeen, runs
from utils.fleet.watcher import FleetSeen
from utils.monitoring.pages import SCRIPT, STYLE, clock, code, icon, shown, source_hash, table
from utils.monitoring.report import duration

REFRESH = 15  # seconds, where scripts are off
NAMED = 5  # bad consumers that stand under the first sentence
MARKS: Mapping[Level, str] = {"bad": "✗", "warning": "!", "ok": "✓"}
_NAME, _FACTS = 23, 29  # characters that fit into a node
_THINNEST, _THICKEST = 1.25, 9.0  # an edge, pixels

_OWN_STYLE = """
body { max-width: 100rem; }
.picture { overflow: auto; max-height: 80vh; border: 1px solid var(--line); border-radius: .4rem; }
.picture svg { display: block; width: auto; height: auto; max-width: none; }
#whole:checked ~ .picture { max-height: none; } #whole:checked ~ .picture svg { width: 100%; }
#whole { flex: none; width: 1.1rem; height: 1.1rem; margin: 0 .4rem .5rem 0; vertical-align: middle; }
svg text { font: 13px system-ui, -apple-system, "Segoe UI", "Noto Sans", sans-serif; fill: var(--ink); }
svg .facts { font-size: 12px; fill: var(--soft); font-variant-numeric: tabular-nums; }
svg .name { font-weight: 600; } svg a:hover .name { text-decoration: underline; }
svg a:focus-visible .box { stroke: var(--flow); stroke-width: 4; }
.edge { fill: none; stroke: var(--soft); stroke-opacity: .55; } .edge.flows { stroke: var(--flow); stroke-opacity: .5; }
.edge.bad { stroke: var(--bad); stroke-opacity: .8; } .edge.warning { stroke: var(--warning); stroke-opacity: .8; }
.edge.back { stroke-dasharray: 7 4; }
.box { fill: var(--paper); stroke: var(--soft); }
.ok .box { stroke: var(--ok); } .ok .mark { fill: var(--ok); }
.warning .box { stroke: var(--warning); stroke-width: 3; } .warning .mark { fill: var(--warning); font-weight: 700; }
.bad .box { fill: var(--bad); stroke: var(--bad); } .bad text { fill: var(--paper); } .bad .mark { font-weight: 700; }
.topic.bad .box { stroke-dasharray: 5 3; }
.state { font-weight: 600; }
.verdict ul { margin: .4rem 0 0; padding: 0; list-style: none; color: var(--ink); font-size: 1rem; }
.verdict li { overflow-wrap: anywhere; } .verdict b { font-weight: 600; }
#consumers :is(td, th) { min-width: 0; padding-right: .6rem; }
#consumers th { white-space: normal; overflow-wrap: normal; vertical-align: bottom; }
@media (min-width: 62rem) { .state, .worker { white-space: nowrap; }
  #consumers td:first-child, #consumers td:last-child { min-width: 11rem; } }
td:has(:target) { background: var(--box); } :target { scroll-margin: 3rem; }
svg a:target .box { stroke: var(--flow); stroke-width: 4; }
@media (max-width: 47.9rem) { main { display: flex; flex-direction: column; } #picture { order: 2; }
  .list td:empty, .verdict small { display: none; } }
@media print {
  body { max-width: none; padding: 0; } .picture { max-height: none; overflow: visible; border: 0; }
  .picture svg { width: 100%; } #whole, label { display: none; } tr, svg { break-inside: avoid; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
_WHOLE_STYLE = STYLE + _OWN_STYLE
POLICY = (
    f"default-src 'none'; style-src {source_hash(_WHOLE_STYLE)}; script-src {source_hash(SCRIPT)}; connect-src 'self'; "
    "img-src data:"
)


def page(seen: FleetSeen, *, served: bool = False) -> str:
    """The whole document; `served`: it renews itself, by a script or without one."""
    level, sentence = _verdict(seen)
    renews = f'<noscript><meta http-equiv="refresh" content="{REFRESH}"></noscript>\n' if served else ""
    script = f"<script>{SCRIPT}</script>\n" if served else ""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Fleet: {escape(sentence)}</title>
<link rel="icon" href="{icon(level)}">
<style>{_WHOLE_STYLE}</style>
{renews}</head>
<body>
<header><h1>Fleet</h1></header>
<p id="gone" class="verdict bad" role="alert"><span>No answer. This is what was seen last.</span></p>
<main>
{"".join(_main(seen, level, sentence))}
</main>
{script}</body>
</html>
"""


def _verdict(seen: FleetSeen) -> tuple[Level, str]:
    levels = [each.level for each in seen.consumers]
    counts = {level: levels.count(level) for level in LEVELS}
    total = f"{len(levels)} consumer" + ("" if len(levels) == 1 else "s")
    if counts["bad"]:
        others = [f"{counts['warning']} should be looked at"] if counts["warning"] else []
        others += [f"{counts['ok']} {'is' if counts['ok'] == 1 else 'are'} well"] if counts["ok"] else []
        is_bad = f"{counts['bad']} of {total} {'is' if counts['bad'] == 1 else 'are'} bad"
        return "bad", f"{', '.join([is_bad, *others])}."
    if seen.problem:
        return "bad", "The table cannot be read."
    if counts["warning"]:
        return "warning", f"{counts['warning']} of {total} should be looked at."
    return "ok", f"All is well with {total}." if levels else "The table has no row."


def _main(seen: FleetSeen, level: Level, sentence: str) -> Iterator[str]:
    names = {each.name: number for number, each in enumerate(sorted(seen.consumers, key=lambda each: each.name))}
    bad = [each for each in seen.consumers if each.level == "bad"]
    lines = [
        f'<li><a href="#c{names[each.name]}">{shown(each.name, 40)}</a> <b>{each.state}</b>'
        f" <small>{shown(each.sentence, 200)}</small></li>"
        for each in bad[:NAMED]
    ]
    lines += [f'<li><a href="#consumers">and {len(bad) - NAMED} more</a></li>'] if len(bad) > NAMED else []
    listed = f"<ul>{''.join(lines)}</ul>" if lines else ""
    yield f'<div class="verdict {level}" role="status"><span>{escape(sentence)}</span>{listed}</div>'
    if seen.problem:
        yield f"<p>The rows are those of before: {shown(seen.problem, 300)}</p>"
    yield f'<p class="soft">As of {clock(seen.time)}. Counts are messages; where transactions write, offsets.</p>'
    graph = _Graph(seen.consumers)
    if graph.nodes:
        yield _picture(graph, names)
    yield f'<section id="consumers"><h2>Consumers, the worst first</h2>{_consumers(seen.consumers, names)}</section>'
    yield from _notes(graph)


# ---------------------------------------------------------------- the graph

Key = str  # of a node: "t cluster name" or "c name"


class _Graph:
    """Consumers and topics, and which way messages go."""

    def __init__(self, consumers: Sequence[ConsumerSeen]) -> None:
        self.consumers = {f"c {each.name}": each for each in consumers}
        self.topics: dict[Key, str] = {}  # their names
        self.reads: dict[tuple[Key, Key], ConsumerSeen] = {}
        self.writes: dict[tuple[Key, Key], ConsumerSeen] = {}
        self.missing: set[Key] = set()
        for own, each in self.consumers.items():
            topics = {topic: f"t {each.cluster} {topic}" for topic in (*each.topics_input, *each.topics_output)}
            self.topics |= {key: topic for topic, key in topics.items()}
            self.reads |= {(topics[topic], own): each for topic in each.topics_input}
            self.writes |= {(own, topics[topic]): each for topic in each.topics_output}
            self.missing |= {topics[topic] for topic in each.missing_topics}
        self.nodes = [*self.consumers, *self.topics]
        self.edges = [*self.reads, *self.writes]
        self.read = {topic for topic, _ in self.reads}
        self.written = {topic for _, topic in self.writes}

    def coming(self, topic: Key) -> float | None:
        """Messages a second that come into a topic, as those see it who write it; None: nobody of the table does."""
        rates = [each.topic_rates.get(self.topics[at], 0.0) for (_, at), each in self.writes.items() if at == topic]
        return max(rates, default=None)


def _picture(graph: _Graph, names: Mapping[str, int]) -> str:
    bad = [key for key, each in graph.consumers.items() if each.level == "bad"]
    drawn = layout(graph.nodes, graph.edges, first=bad)
    size = f'viewBox="0 0 {drawn.width:.0f} {drawn.height:.0f}" width="{drawn.width:.0f}" height="{drawn.height:.0f}"'
    rates = {topic: graph.coming(topic) for topic in graph.topics}
    parts = [
        *(_edge(edge, drawn, graph, rates) for edge in graph.edges),
        *(_topic(key, drawn.places[key], graph, rates[key]) for key in graph.topics),
        *(_consumer(each, drawn.places[key], names[each.name]) for key, each in graph.consumers.items()),
    ]
    label = "Topics and consumers, from left to right as messages go"
    return (
        '<section id="picture"><h2>How messages go</h2>'
        '<input type="checkbox" id="whole"><label for="whole">Fit the whole picture into the window</label>'
        f'<div class="picture" tabindex="0" role="group" aria-label="{label}"><svg {size} role="group">'
        f"{''.join(parts)}</svg></div></section>"
    )


def _edge(edge: tuple[Key, Key], drawn: Layout, graph: _Graph, rates: Mapping[Key, float | None]) -> str:
    source, target = edge
    if edge in graph.reads:
        each, topic = graph.reads[edge], graph.topics[source]
        rate = each.topic_rates.get(topic, 0.0)
        unread = sum(part.unread for part in each.partitions if part.topic == topic)
        level = each.level if (unread and each.state in {BEHIND, STILL}) or each.level == "bad" else ""
        text = f"{topic} → {each.name}: {_rate(rate)} read, {unread:,} unread"
    else:
        each, topic = graph.writes[edge], graph.topics[target]
        rate, level = rates[target] or 0.0, "bad" if target in graph.missing else ""
        text = f"{each.name} → {topic}: {_rate(rate)} come into it"
    kind = " ".join(filter(None, ["edge", level or ("flows" if rate else ""), "back" if edge in drawn.back else ""]))
    thick = max(min(_THINNEST + 1.9 * log10(1 + rate), _THICKEST), 2.5 if level else 0.0)
    (left, top), end = drawn.places[source], drawn.places[target]
    path = _path((left + WIDTH, top), drawn.ways[edge], end)
    return f'<path class="{kind}" d="{path}" stroke-width="{thick:.1f}"><title>{_plain(text, 300)}</title></path>'


def _path(start: Point, between: Sequence[Point], end: Point) -> str:
    parts = [f"M{start[0]:.0f} {start[1]:.0f}"]
    before = start
    for at in (*between, end):
        bend = max(abs(at[0] - before[0]) / 2, 20.0)
        if at[0] < before[0] - 1:  # back, below all others
            parts.append(f"L{at[0]:.0f} {at[1]:.0f}")
        else:
            parts.append(
                f"C{before[0] + bend:.0f} {before[1]:.0f} {at[0] - bend:.0f} {at[1]:.0f} {at[0]:.0f} {at[1]:.0f}"
            )
        before = at
    return "".join(parts)


def _topic(key: Key, place: Point, graph: _Graph, rate: float | None) -> str:
    name, is_missing = graph.topics[key], key in graph.missing
    ends = [text for text, known in (("from outside", graph.written), ("to outside", graph.read)) if key not in known]
    facts = "does not exist" if is_missing else " · ".join(([] if rate is None else [f"{_rate(rate)} in"]) + ends)
    reading = [each for (topic, _), each in graph.reads.items() if topic == key]
    whole = f"Topic {name}: {facts}. Read by {', '.join(each.name for each in reading) or 'nobody of the table'}."
    return (
        f'<g class="topic {"bad" if is_missing else ""}"><title>{_plain(whole, 500)}</title>'
        f"{_box(place, 22)}{_texts(place, name, facts)}</g>"
    )


def _consumer(each: ConsumerSeen, place: Point, number: int) -> str:
    facts = [each.state] if each.level != "ok" or not each.unread else []
    facts += [f"{_short(each.unread)} unread"] if each.unread else []
    facts += [f"{_short(each.unfinished or 0)} wait"] if each.waits else []
    letters = each.letters.count if each.letters else 0
    facts += [f"{_short(letters)} dead letter{'' if letters == 1 else 's'}"] if letters else []
    text = _fitting(facts)
    whole = _plain(f"{each.name}: {each.state}. {each.sentence}", 500)
    x, y = place
    return (
        f'<a href="#c{number}" id="n{number}" class="{each.level}" aria-label="{whole}"><title>{whole}</title>'
        f'{_box(place, 6)}<text class="mark" x="{x + 10:.0f}" y="{y - 4:.0f}">{MARKS[each.level]}</text>'
        f"{_texts(place, each.name, text, 26)}</a>"
    )


def _fitting(facts: Sequence[str]) -> str:
    """As many as fit into a box; the first ones tell the most."""
    text = " · ".join(facts)
    while len(text) > _FACTS and len(facts) > 1:
        facts = facts[:-1]
        text = f"{' · '.join(facts)} …"
    return text


def _short(number: int) -> str:
    """`48k`; exact below 10,000."""
    sizes = ((10**9, "G"), (10**6, "M"), (10**3, "k"))
    size, unit = next((each for each in sizes if number >= max(each[0], 10_000)), (1, ""))
    return f"{number / size:.1f}{unit}" if unit and number < 10 * size else f"{number // size:,}{unit}"


def _box(place: Point, corner: int) -> str:
    x, y = place
    at = f'x="{x:.0f}" y="{y - HEIGHT / 2:.0f}" width="{WIDTH:.0f}" height="{HEIGHT:.0f}" rx="{corner}"'
    return f'<rect class="box" {at}/>'


def _texts(place: Point, name: str, facts: str, left: int = 16) -> str:
    x, y = place
    return (
        f'<text class="name" x="{x + left:.0f}" y="{y - 4:.0f}">{_plain(name, _NAME)}</text>'
        f'<text class="facts" x="{x + left:.0f}" y="{y + 13:.0f}">{_plain(facts, _FACTS)}</text>'
    )


def _plain(text: str, longest: int) -> str:
    """Text from outside for a place that takes no elements: cut, and with nothing invisible in it."""
    cut = text if len(text) <= longest else f"{text[: longest - 1]}…"
    return escape("".join(each if each.isprintable() else f"\\u{ord(each):04x}" for each in cut))


def _rate(rate: float) -> str:
    return f"{rate:,.0f}/s" if rate >= 9.5 or not rate else f"{rate:.1f}/s"


# ---------------------------------------------------------------- the list and what else is to be known


def _consumers(consumers: Sequence[ConsumerSeen], names: Mapping[str, int]) -> str:
    rows = [
        [
            f'<span id="c{names[each.name]}">{_named(each, names[each.name])}</span>',
            f'<span class="state {each.level}">{MARKS[each.level]} {each.state}</span>',
            "?" if each.unread is None else f"{each.unread:,}",
            "?" if each.unfinished is None else f"{each.unfinished:,}",
            "" if each.age is None else duration(each.age),
            _letters(each),
            "<br>".join(map(_member, each.members)) or ("" if each.unread is None else "none"),
            shown(" ".join(each.frames)),
            shown(each.sentence, 500),
        ]
        for each in consumers
    ]
    heads = ["consumer", "state", "#unread", "#not done", "#since", "#dead letters", "workers", "frame", "what to know"]
    return table(heads, rows) if rows else "<p>The table has no row.</p>"


def _named(each: ConsumerSeen, number: int) -> str:
    return f'<a href="#n{number}">{code(each.name)}</a>'


def _letters(each: ConsumerSeen) -> str:
    if each.letters is None:
        return ""
    return f"{'' if each.letters.exact else '~'}{each.letters.count:,}"


def _member(each: MemberSeen) -> str:
    numbers = runs(sorted({number for numbers in each.partitions.values() for number in numbers}))
    return f'{shown(each.instance or each.host)} <span class="worker">{numbers or "none"}</span>'


def _notes(graph: _Graph) -> Iterator[str]:
    notes = []
    for way in circles(graph.nodes, graph.edges):
        around = " → ".join(code(graph.topics.get(key, key[2:])) for key in (*way, way[0]))
        notes.append(f"<p>A circle: {around}. Messages may go round for ever.</p>")
    outside = {key: name for key, name in graph.topics.items() if key not in graph.missing}
    lists = (
        ("Read by nobody of the table", [name for key, name in outside.items() if key not in graph.read]),
        ("Written by nobody of the table", [name for key, name in outside.items() if key not in graph.written]),
        ("Do not exist", [graph.topics[key] for key in graph.missing]),
    )
    notes += [f"<p>{text}: {', '.join(map(code, sorted(names)))}.</p>" for text, names in lists if names]
    if notes:
        yield f'<section id="notes"><h2>Topics</h2>{"".join(notes)}</section>'
