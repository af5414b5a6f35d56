"""The status page: a report as HTML. Pure text: no HTTP, no clock, nothing is asked of the worker.

Everything that comes from outside goes through `shown` or `escape`. The page needs no network and no script; the one
that it has only fetches it anew, and the policy lets no other run.
"""

import base64
import hashlib
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from html import escape

from utils.monitoring.history import Series
from utils.monitoring.report import Report, Search, Setting, Trouble, duration, lagging, rounded
from utils.monitoring.view import PartitionView, Snapshot, WaitingView
from utils.processing.outcome import InFlight

LONGEST = 64  # characters of an id that the page shows
NEWEST = 20  # failures that the page shows
LONGEST_CALLS = 5  # calls that the page shows
REFRESH = 15  # seconds, where scripts are off
_WIDTH, _HEIGHT = 240, 48  # of a chart, pixels
_WHOLE = 16  # characters of a topic that are not broken over lines

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --box: #f4f6f8; --line: #d3dae0; --ink: #1f2830; --soft: #56626d;
  --flow: #2f6fb5; --ok: #1a7f37; --warning: #9a6700; --bad: #c4221c; }
@media (prefers-color-scheme: dark) { :root { --paper: #0f1419; --box: #182028; --line: #33404b; --ink: #e6ebf0;
  --soft: #a3afba; --flow: #6db0f2; --ok: #4fc681; --warning: #e3b341; --bad: #ff7b72; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", "Noto Sans", sans-serif; }
h1 { font-size: 1.35rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; margin: 1.75rem 0 .5rem; }
p { margin: .25rem 0; overflow-wrap: anywhere; }
a { color: var(--flow); }
:focus-visible { outline: 3px solid var(--flow); outline-offset: 2px; }
.soft, caption, th { color: var(--soft); }
.verdict { border-left: .4rem solid; padding: .6rem .9rem; margin: 1rem 0; background: var(--box); font-size: 1.1rem; }
.verdict span { color: var(--ink); }
.ok { color: var(--ok); } .warning { color: var(--warning); } .bad { color: var(--bad); }
form { display: flex; flex-wrap: wrap; gap: .5rem; align-items: center; margin: .75rem 0 0; }
input { flex: 1 1 0; min-width: 0; max-width: 28rem; }
input, button { font: inherit; color: inherit; background: var(--paper); border: 1px solid var(--soft);
  border-radius: .3rem; padding: .4rem .7rem; }
button { background: var(--box); cursor: pointer; }
.charts { display: grid; margin-top: 1rem; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .75rem; }
figure { display: flex; flex-direction: column; margin: 0; padding: .7rem .8rem; background: var(--box);
  border-radius: .4rem; } figure svg { margin-top: auto; }
figcaption, figure p { color: var(--soft); } figcaption b { color: var(--ink); font-size: 1.25rem;
  font-weight: 600; }
figcaption span { display: block; } figcaption, figure p, .charts + p { font-size: .875rem; }
svg { display: block; width: 100%; height: 3rem; }
.area { fill: var(--flow); opacity: .18; }
.curve { fill: none; stroke: var(--flow); stroke-width: 1.5; vector-effect: non-scaling-stroke; }
.bar { fill: var(--flow); } td svg { height: .6rem; margin-top: .45rem; min-width: 4rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; } .list { width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--line);
  overflow-wrap: anywhere; min-width: 4.5rem; }
td:first-child { min-width: 9rem; }
th { font-weight: 500; white-space: nowrap; } .number { text-align: right; white-space: nowrap; min-width: 0; }
code { white-space: nowrap; } .long, .id { white-space: normal; overflow-wrap: anywhere; }
.id, code { font-size: .92em; font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono",
  monospace; }
mark { background: none; color: var(--warning); }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(14rem, 1fr)); gap: 0 2rem; margin: 0;
  font-variant-numeric: tabular-nums; }
dl div { display: flex; justify-content: space-between; padding: .3rem 0; border-bottom: 1px solid var(--line); }
dt { color: var(--soft); } dd { margin: 0; }
summary { cursor: pointer; font-size: 1.05rem; font-weight: 600; margin-top: 1.75rem; }
footer { margin-top: 2rem; color: var(--soft); }
#gone { display: none; } .gone #gone { display: block; position: sticky; top: 0; }
@media (max-width: 47.9rem) {
  label { flex-basis: 100%; }
  .list thead, .list svg { display: none; }
  .list, .list tbody, .list tr { display: block; }
  .list tr { padding: .5rem 0; border-bottom: 1px solid var(--line); }
  .list td { display: inline-block; max-width: 100%; min-width: 0; padding: 0; border: 0; margin-right: .75rem; }
  .list td:first-child { display: block; margin: 0; font-weight: 600; }
  .list td[data-head]::before { content: attr(data-head) " "; color: var(--soft); }
}
"""

# What is there becomes what has come, node by node: focus, selection and scroll places stay, and nothing is read aloud
# to those who do not see but what has changed.
SCRIPT = """
function become(old, fresh) {
  if (old.nodeName !== fresh.nodeName) return old.replaceWith(fresh);
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  for (const { name } of [...old.attributes])
    if (name !== "open" && !fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes)
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  const [before, after] = [[...old.childNodes], [...fresh.childNodes]];
  before.slice(after.length).forEach(each => each.remove());
  after.forEach((each, index) => before[index] ? become(before[index], each) : old.append(each));
}
setInterval(async () => {
  if (document.hidden) return;
  try {
    const answer = await fetch(location.href);
    if (!answer.ok) throw answer.status;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of ["title", "link", "main"]) become(document.querySelector(part), page.querySelector(part));
    document.body.classList.remove("gone");
  } catch { document.body.classList.add("gone"); }
}, 5000);
"""


def source_hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


POLICY = (
    f"default-src 'none'; style-src {source_hash(STYLE)}; script-src {source_hash(SCRIPT)}; connect-src 'self'; "
    "img-src data:; form-action 'self'"
)


def page(report: Report, search: Search | None = None) -> str:
    """The whole document; with a search also where that id is."""
    title = f"{report.consumer}: {report.verdict.sentence}"
    asked = escape(search.id) if search else ""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<link rel="icon" href="{icon(report.verdict.level)}">
<style>{STYLE}</style>
<noscript><meta http-equiv="refresh" content="{REFRESH}"></noscript>
</head>
<body>
<header>
<h1>{shown(report.consumer, 200)}</h1>
<form role="search" action="/" method="get">
<label for="id">Where is id</label>
<input id="id" name="id" value="{asked}" autocomplete="off" autocapitalize="off" spellcheck="false"
 enterkeyhint="search" required>
<button>Look</button>
</form>
</header>
<p id="gone" class="verdict bad" role="alert"><span>The worker does not answer. This is what it showed last.</span></p>
<main>
{"".join(_main(report, search))}
</main>
<script>{SCRIPT}</script>
</body>
</html>
"""


def shown(text: str, longest: int = LONGEST) -> str:
    """Text from outside as HTML: on one line, cut, with nothing invisible in it. It cannot turn what is around it."""
    visible = "".join(map(_visible, _with_visible_ends(text[:longest])))
    rest = f'<span class="soft">… {len(text):,} characters</span>' if len(text) > longest else ""
    return f"<bdi>{visible}</bdi>{rest}"


def _with_visible_ends(text: str) -> str:
    """A space at either end becomes U+2420, the symbol for it."""
    inner = text.strip(" ")
    before = len(text) - len(text.lstrip(" "))
    return "\u2420" * before + inner + "\u2420" * (len(text) - before - len(inner))


def _visible(character: str) -> str:
    """As it is, or marked by its code where it is a control, a direction, a separator or else not to be seen."""
    category = unicodedata.category(character)
    if category[0] == "C" or category in {"Zl", "Zp"} or (category == "Zs" and character != " "):
        return f"<mark>\\u{ord(character):04x}</mark>"
    return escape(character)


def _main(report: Report, search: Search | None) -> Iterator[str]:
    level = report.verdict.level
    yield f'<p class="verdict {level}" role="status"><span>{escape(report.verdict.sentence)}</span></p>'
    inputs, outputs = (_topics(topics) for topics in (report.topics_input, report.topics_output))
    if report.topics_input:
        yield f'<p class="soft">{inputs} → process() → {outputs or "no topic"} · as of {clock(report.time)}</p>'
    for topic, why in report.mismatches.items():
        yield f"<p>Keys of {code(topic)}: {shown(why, 300)}</p>"
    for problem in report.refused:
        yield f"<p>The row: {shown(problem, 500)}</p>"
    if search:
        yield _search(search)
    yield f'<div class="charts">{"".join(map(_chart, report.series))}</div>'
    yield '<p class="soft">Now, and in the last ten minutes.</p>'
    if report.snapshot:
        yield _waiting(report.snapshot)
        yield _calls(report.snapshot)
        yield _partitions(report.snapshot.partitions)
    yield _troubles(report.troubles)
    yield _numbers(report)
    yield f"<details><summary>Settings</summary>{_settings(report.settings)}</details>"
    yield f"<footer><p>{_LINKS}</p><p>Frame {escape(report.frame)}</p></footer>"


def clock(time: str) -> str:
    return f'<time datetime="{escape(time)}">{escape(time.replace("T", " ").replace("Z", " UTC"))}</time>'


def _topics(topics: Iterable[str]) -> str:
    return ", ".join(map(code, topics))


def code(name: str) -> str:
    """A name, broken over lines only where it is long."""
    kind = "" if len(name) <= _WHOLE else ' class="long"'
    return f"<code{kind}>{shown(name, 100)}</code>"


def _search(search: Search) -> str:
    id = f'<span class="id">{shown(search.id)}</span>'
    places = []
    if search.in_flight:
        places.append(f"<p>{id} {_in_flight(search.in_flight)}</p>")
    if search.waiting:
        places.append(f"<p>{id} waits here.</p>{_waiting_table([search.waiting])}")
    if not search.asked:
        text = f"<p>No answer about {id}: the worker is not running, or busy. Look again in a moment.</p>"
    else:
        text = "".join(places) or f"<p>{id} {_ELSEWHERE}</p>"
    lines = _trouble_table(search.troubles) if search.troubles else ""
    return f'<section aria-label="Search"><h2>Where is {id}</h2>{text}{lines}</section>'


_ELSEWHERE = (
    "is not here. It is done, given up, waiting for the next commit, not read yet, or in a partition of another worker."
)


def _in_flight(found: InFlight) -> str:
    plural = "" if found.failed == 1 else "s"
    failed = f", after {found.failed} failed attempt{plural}" if found.failed else ""
    match found.state:
        case "called":
            return f"has been in <code>process()</code> for {duration(found.seconds)}{failed}."
        case "queued":
            return f"is complete and waits for <code>process()</code>{failed}."
        case "tried again" if found.seconds > 0:
            return f"has failed and is tried again in {duration(found.seconds)}{failed}."
    return f"has failed and is tried again when <code>process()</code> succeeds{failed}."


def _chart(series: Series) -> str:
    most = rounded(max(series.values, default=0))
    label = f"{series.title}: {rounded(series.latest)} {series.unit}, at most {most}"
    return (
        f"<figure><figcaption><span>{escape(series.title)}</span><b>{rounded(series.latest)}</b> "
        f'{escape(series.unit)}</figcaption><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none" '
        f'role="img" aria-label="{escape(label)}">{_curve(series.values)}</svg><p>at most {most}</p></figure>'
    )


def _curve(values: Sequence[float]) -> str:
    if len(values) < 2:
        return ""
    most = max(*values, 1e-9)
    step = _WIDTH / (len(values) - 1)
    points = " ".join(
        f"{index * step:.1f},{_HEIGHT - 2 - value / most * (_HEIGHT - 4):.1f}" for index, value in enumerate(values)
    )
    area = f"0,{_HEIGHT} {points} {_WIDTH},{_HEIGHT}"
    return f'<polygon class="area" points="{area}"/><polyline class="curve" points="{points}"/>'


def _waiting(snapshot: Snapshot) -> str:
    if not snapshot.waiting:
        return "<section><h2>Waiting</h2><p>No message waits for its other parts.</p></section>"
    heading = f"Waiting, oldest first: {snapshot.waiting:,} ids, {_bytes(snapshot.waiting_bytes)}"
    more = snapshot.waiting > len(snapshot.oldest)
    rest = f"<p>The first {len(snapshot.oldest)}. {_MORE}</p>" if more else ""
    return f"<section><h2>{heading}</h2>{_waiting_table(snapshot.oldest)}{rest}</section>"


_MORE = 'More of them: <a href="/waiting.json?limit=1000">/waiting.json?limit=1000</a>.'


def _waiting_table(groups: Sequence[WaitingView]) -> str:
    rows = [
        [
            f'<span class="id">{shown(group.id)}</span>',
            _topics(group.missing),
            _topics(group.arrived),
            duration(group.age),
            _given_up(group.given_up_in),
        ]
        for group in groups
    ]
    return table(["id", "lacks", "has", "#waits for", "given up"], rows)


def _given_up(seconds: float) -> str:
    if seconds > 0:
        return f"in {duration(seconds)}"
    return "when what it lacks is read to its end"


def _calls(snapshot: Snapshot) -> str:
    """Also those that nobody waits for any more: their messages are dead letters, or others have them."""
    number = max(snapshot.in_flight, len(snapshot.calls))
    if not number:
        return ""
    rows = [
        [f'<span class="id">{shown(call.id)}</span>', duration(call.seconds)] for call in snapshot.calls[:LONGEST_CALLS]
    ]
    heading = f"In process() or on the way: {number:,} ids"
    return f"<section><h2>{heading}</h2>{table(['running calls, longest first', 'for'], rows)}</section>"


def _partitions(partitions: Sequence[PartitionView]) -> str:
    most = max((each.lag or 0 for each in partitions), default=0)
    rows = [
        [
            code(each.topic),
            str(each.partition),
            "?" if each.lag is None else f"{each.lag:,}",
            _bar(each.lag or 0, most),
            f"{each.position:,}",
            f"{each.unfinished:,}",
            f"{each.map_characters:,}",
            "paused" if each.paused else "",
        ]
        for each in lagging(partitions)
    ]
    heads = ["topic", "#partition", "#lag", "", "#position", "#not done", "#map", ""]
    body = table(heads, rows) if rows else "<p>None.</p>"
    return f"<section><h2>Partitions</h2>{body}</section>"


def _bar(lag: int, most: int) -> str:
    width = 100 * lag / most if most else 0
    return (
        '<svg viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="bar" width="{width:.1f}" height="6"/></svg>'
    )


def _troubles(troubles: Sequence[Trouble]) -> str:
    body = _trouble_table(_foremost(troubles)) if troubles else "<p>The log has no warning and no error.</p>"
    return f"<section><h2>Recent failures</h2>{body}</section>"


def _foremost(troubles: Sequence[Trouble]) -> list[Trouble]:
    """The newest; half of the lines are kept for errors, however many warnings have come since."""
    errors = [number for number, each in enumerate(troubles) if each.level != "WARNING"][: NEWEST // 2]
    others = [number for number in range(len(troubles)) if number not in errors][: NEWEST - len(errors)]
    return [troubles[number] for number in sorted(errors + others)]


def _trouble_table(troubles: Sequence[Trouble]) -> str:
    rows = [
        [
            f'<time datetime="{escape(each.time)}">{duration(each.age)} ago</time>',
            f'<span class="{"warning" if each.level == "WARNING" else "bad"}">{escape(each.level.lower())}</span>',
            shown(each.message, 300),
            " ".join([*(f"{escape(key)}={_fact(value)}" for key, value in each.facts.items()), shown(each.error, 200)]),
        ]
        for each in troubles
    ]
    return table(["when", "level", "message", "facts"], rows, titled=False)


def _fact(value: str) -> str:
    return f'<span class="id">{shown(value, 200)}</span>'


def _numbers(report: Report) -> str:
    numbers = {name.replace("_", " "): number for name, number in report.counters.items()}
    if report.snapshot:
        numbers = {"not committed": report.snapshot.uncommitted, **numbers}
    lines = "".join(f"<div><dt>{escape(name)}</dt><dd>{number:,}</dd></div>" for name, number in numbers.items())
    return f"<section><h2>Numbers, now and since the start of the process</h2><dl>{lines}</dl></section>"


_LINKS = " · ".join(
    f'<a href="{path}">{path}</a>' for path in ("/status.json", "/waiting.json", "/metrics", "/health/ready")
)


def _settings(settings: Sequence[Setting]) -> str:
    rows = [[code(each.name), f'<span class="id">{shown(each.value, 200)}</span>', each.source] for each in settings]
    return table(["setting", "value", "from"], rows)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], titled: bool = True) -> str:
    """A table of cells that are HTML already; `#` before a title: numbers.

    With more than two columns it is a list where the screen is narrow; `titled`: each cell there begins with its title.
    """
    titles = [escape(head.lstrip("#")) for head in heads]
    kinds = [' class="number"' if head.startswith("#") else "" for head in heads]
    named = [f' data-head="{title}"' if titled and title and index else "" for index, title in enumerate(titles)]
    first = "".join(f'<th scope="col"{kind}>{title}</th>' for title, kind in zip(titles, kinds, strict=True))
    lines = "".join(
        "<tr>"
        + "".join(f"<td{kind}{name}>{cell}</td>" for cell, kind, name in zip(row, kinds, named, strict=True))
        + "</tr>"
        for row in rows
    )
    shape = ' class="list"' if len(heads) > 2 else ""
    return f"<table{shape}><thead><tr>{first}</tr></thead><tbody>{lines}</tbody></table>"


def _bytes(number: int) -> str:
    for size, unit in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number} B"


def icon(level: str) -> str:
    colour = {"ok": "1a9c4b", "warning": "d29922"}.get(level, "d1342c")
    circle = f"<circle cx='4' cy='4' r='4' fill='%23{colour}'/>"
    return f"data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 8 8'>{circle}</svg>"
