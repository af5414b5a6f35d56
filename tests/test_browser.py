"""The status page as people have it: in a browser, by keyboard, on a phone, light and dark, with scripts and without.

The server and all behind it are real; only what the loop would tell of itself is made up.
"""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TypeVar, cast
from urllib.parse import quote

import pytest

import framework
from config import Settings
from tests.monitoring.test_watch import HOSTILE
from tests.services.chromium import Scheme, Tab
from utils.monitoring.history import Sample
from utils.monitoring.pages import POLICY
from utils.monitoring.status import Address, Answer, Health, Server, serve
from utils.monitoring.view import CallView, PartitionView, Snapshot, View, WaitingView
from utils.monitoring.watch import Watch
from utils.processing.outcome import InFlight

T = TypeVar("T")

TOPICS = ("orders", "payments")
LONG = "warehouse.europe-west.stock-movements_of-the-last-mile.v2." * 4  # Kafka's longest is 249
WIDTHS = (320, 360, 480, 768, 1000, 1440)
ATTACKS = [
    "<script>window.ran = 1</script>",
    "'\"><img src=//127.0.0.1:1/seen onerror='window.ran = 1'>",
    "</title></style></noscript><svg onload='window.ran = 1'>",
    "javascript:alert(1)",
    "<meta http-equiv=refresh content='0;url=//127.0.0.1:1/'>",
    "<b style='position:fixed;inset:0'>",
]


def waiting(id: str, age: float = 20.0) -> WaitingView:
    return WaitingView(id, age, 60 - age, 1, TOPICS[:1], TOPICS[1:], 400)


def partition(topic: str, number: int) -> PartitionView:
    lag = 17 * number**3
    return PartitionView(topic, number, 1_234_567_890, 1_234_567_890 + lag, lag, 4321, 1024, paused=number == 3)


BUSY = Snapshot(
    waiting=1234,
    waiting_bytes=567_890,
    oldest_age=75.0,
    in_flight=3,
    oldest_call=12.5,
    circuit_open_for=None,
    calls=(CallView("order-7", 12.5), CallView("order-8", 0.2)),
    uncommitted=40,
    max_pending_bytes=10**9,
    message_timeout=60.0,
    partitions=tuple(partition(topic, number) for topic in TOPICS for number in range(6)),
    oldest=tuple(waiting(f"order-{number}", 75.0 - number) for number in range(20)),
)


@dataclass
class Loop:
    """In place of the worker's: it tells of itself what the test has put down."""

    snapshot_now: Snapshot = BUSY
    aggregator: tuple[int, ...] = ()

    def snapshot(self, _oldest: int = 0) -> Snapshot:
        return self.snapshot_now

    def waiting(self, id: str) -> WaitingView | None:
        return next((each for each in self.snapshot_now.oldest if each.id == id[:1024]), None)

    def in_flight(self, id: str) -> InFlight | None:
        return next((InFlight("called", each.seconds, 1) for each in self.snapshot_now.calls if each.id == id), None)


class AnswersAtOnce(Health):
    """Not at the next turn of a loop, which may be late on a busy machine."""

    def ask(self, question: Callable[[View], T], timeout: float) -> T | None:
        return question(cast(View, self.view))


@dataclass
class Worker:
    """What is watched. `now` counts seconds and stands still."""

    loop: Loop = field(default_factory=Loop)
    now: float = 1000.0

    def __post_init__(self) -> None:
        environ = {"CONSUMER_NAME": "paid-orders", "DATABASE_URL": "mysql://user:secret@db.example/consumers"}
        settings = Settings.read({**environ, "KAFKA_SASL_PASSWORD": "secret", "KAFKA_COMPRESSION_TYPE": "lz4"})
        self.watch = Watch(settings, lambda: self.now, lambda: 1_700_000_000 + self.now)
        self.watch.sees(settings.overlaid('{"message_timeout": 60}'), TOPICS, ("paid-orders",))
        self.watch.health = AnswersAtOnce(turned_at=self.now, joined=True, view=cast(View, self.loop))
        for second in range(0, 600, 5):
            at = 400.0 + second
            self.watch._history.add(Sample(at, 478 * second, 237 * second, second // 50, second))
        self.fails("order-9")

    def fails(self, id: str) -> None:
        shown_at, self.now = self.now, self.now - 65
        facts = {"id": id, "source": "orders:1:4711", "attempts": 3}
        for level, message in ((logging.WARNING, "process() failed and is tried again"), (logging.ERROR, "failed")):
            record = logging.LogRecord("consumer", level, framework.__file__, 1, message, None, None)
            vars(record).update(facts, created=1_700_000_000 + self.now)
            self.watch.memory.emit(record)
        self.now = shown_at


@contextmanager
def serving(port: int = 0) -> Iterator[Server]:
    server = serve(Health(), Address("127.0.0.1", port))
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="session")  # tests of other files come in between
def server() -> Iterator[Server]:
    """One for all tests, as its end takes half a second; each of them has it give other pages."""
    with serving() as server:
        yield server


@pytest.fixture
def worker() -> Worker:
    return Worker()


@pytest.fixture
def url(server: Server, worker: Worker) -> str:
    """Of the page of this worker, without the slash at its end."""
    server.pages = worker.watch.pages()
    return address(server)


def address(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_port}"


def complaints(tab: Tab, url: str) -> list[str]:
    """What a page of this address should not have done: said anything, asked anything, called anybody else."""
    tab.evaluate("0")  # all that was told until now is read
    said = [json.dumps(each["args"]) for each in tab.told("Runtime.consoleAPICalled")]
    said += [each["exceptionDetails"]["text"] for each in tab.told("Runtime.exceptionThrown")]
    said += [each["entry"]["text"] for each in tab.told("Log.entryAdded")]
    said += [each["message"] for each in tab.told("Page.javascriptDialogOpening")]
    asked = [each["request"]["url"] for each in tab.told("Network.requestWillBeSent")]
    said += [f"asked for {each[:100]}" for each in asked if not each.startswith((f"{url}/", "data:image/svg+xml,"))]
    if tab.evaluate("window.ran"):
        said.append("ran")
    return said


# ---------------------------------------------------------------- hostile ids


@pytest.mark.parametrize(
    ("policy", "content", "complaint"),
    [
        (POLICY, "<script>window.ran = 1</script>", "violates"),
        (POLICY, "<style>p { color: red }</style>", "violates"),
        (POLICY, "<img src=//127.0.0.1:1/seen>", "violates"),
        ("", "<script>window.ran = 1</script>", "ran"),
        ("", "<script>console.log('oh')</script>", "oh"),
        ("", "<script>nothing()</script>", "Uncaught"),
        ("", "<img src=//127.0.0.1:1/seen>", "asked for http://127.0.0.1:1/seen"),
        ("", "<link rel=icon href=/icon><img src=/none>", "404"),
    ],
)
def test_a_page_that_would_do_what_it_should_not_is_noticed(
    tab: Tab, server: Server, policy: str, content: str, complaint: str
) -> None:
    server.pages = {"/": lambda _: Answer("text/html", content.encode(), policy)}
    tab.open(address(server))
    assert complaint in " ".join(complaints(tab, address(server)))


@pytest.mark.parametrize("id", [*ATTACKS, *HOSTILE], ids=lambda id: f"{ascii(id)[:20]}")
def test_a_hostile_id_does_nothing_and_moves_nothing(tab: Tab, worker: Worker, url: str, id: str) -> None:
    topics = (id[:200], LONG)
    worker.loop.snapshot_now = replace(
        BUSY,
        oldest=(replace(waiting(id), arrived=topics, missing=topics), waiting("order-1")),
        calls=(CallView(id, 1.0),),
        partitions=tuple(partition(topic, number) for topic in (LONG, id[:200]) for number in range(6)),
    )
    worker.watch.health.mismatches = {id: id}
    worker.watch.health.refused = (id,)
    worker.fails(id)
    tab.looks("light", 360)
    for path in ("/", f"/?id={quote(id)}"):
        tab.open(url + path)
        assert tab.evaluate("document.body.innerText").count("Recent failures") == 1
        assert ("waits here" in tab.evaluate("document.body.innerText")) == (path != "/")
        assert complaints(tab, url) == []
        assert sticking_out(tab, 360) == []


# ---------------------------------------------------------------- width

# Every element that is wider than the window, or whose content is wider than itself and cut or scrolled.
STICKING_OUT = """
[...document.querySelectorAll("body, body *")].filter(each => {
  const box = each.getBoundingClientRect(), style = getComputedStyle(each);
  if (!box.width || style.position === "fixed") return false;
  const cut = each.scrollWidth > each.clientWidth + 1 && style.overflowX !== "visible" && each.tagName !== "INPUT";
  return box.left < -0.5 || box.right > WIDTH + 0.5 || cut;
}).map(each => each.outerHTML.slice(0, 120))
"""


def sticking_out(tab: Tab, width: int) -> list[str]:
    found: list[str] = tab.evaluate(STICKING_OUT.replace("WIDTH", str(width)))
    whole = tab.evaluate("document.documentElement.scrollWidth")
    return found + ([f"the page is {whole} wide"] if whole > width else [])


def unfold(tab: Tab) -> None:
    tab.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("topic", ["orders", LONG])
def test_nothing_sticks_out_at_any_width(tab: Tab, worker: Worker, url: str, width: int, topic: str) -> None:
    groups = tuple(replace(each, missing=(topic, "payments")) for each in BUSY.oldest)
    numbers = tuple(replace(each, topic=topic) for each in BUSY.partitions)
    worker.loop.snapshot_now = replace(BUSY, oldest=groups, partitions=numbers)
    tab.looks("light", width)
    tab.open(f"{url}/?id=order-7")
    unfold(tab)
    assert sticking_out(tab, width) == []


def test_names_of_usual_length_are_not_broken_beside_long_ids(tab: Tab, worker: Worker, url: str) -> None:
    group = replace(waiting("x" * 64), missing=("customer-address",), arrived=("payments-by-card",))
    worker.loop.snapshot_now = replace(BUSY, oldest=(group,))
    tab.looks("light", 768)
    tab.open(url)
    assert sticking_out(tab, 768) == []
    lines = "[...document.querySelectorAll('td code')].map(each => each.getClientRects().length)"
    assert set(tab.evaluate(lines)) == {1}


def test_what_sticks_out_is_noticed(tab: Tab) -> None:
    tab.looks("light", 360)
    for page in (f"<b>{'x' * 80}</b>", f"<p style=overflow:auto>{'x' * 80}", "<p style='margin-left:-9px'>left"):
        tab.open(f"data:text/html,<!DOCTYPE html><meta name=viewport content=width=device-width>{page}")
        assert sticking_out(tab, 360)
    tab.open("data:text/html,<!DOCTYPE html><meta name=viewport content=width=device-width><p>fits")
    assert sticking_out(tab, 360) == []


# ---------------------------------------------------------------- keyboard

FOCUS = """
(() => { const at = document.activeElement, style = getComputedStyle(at);
  const text = at.id || at.innerText || at.tagName;
  return [at === document.body ? "" : `${at.tagName} ${text}`.toLowerCase(),
    style.outlineStyle === "solid" && parseFloat(style.outlineWidth) >= 2,
    at.getBoundingClientRect().top >= 0 && at.getBoundingClientRect().bottom <= innerHeight]; })()
"""


def tab_stops(tab: Tab) -> list[str]:
    """What has the focus, one after the other, while Tab is pressed; each of them must be seen to have it."""
    stops: list[str] = []
    while len(stops) < 100:
        tab.press("Tab")
        name, outlined, in_window = tab.evaluate(FOCUS)
        if not name:
            return stops
        assert outlined, name
        assert in_window, name
        stops.append(name)
    raise AssertionError(f"no end of {stops}")


@pytest.mark.parametrize("width", [360, 1000])
def test_tab_goes_to_the_search_the_links_and_the_settings_and_nowhere_else(tab: Tab, url: str, width: int) -> None:
    tab.looks("light", width)
    tab.open(url)
    links = [f"a {path}" for path in ("/status.json", "/waiting.json", "/metrics", "/health/ready")]
    expected = ["input id", "button look", "a /waiting.json?limit=1000", "summary settings", *links]
    assert tab_stops(tab) == expected


def test_enter_searches(tab: Tab, url: str) -> None:
    tab.open(url)
    tab.press("Tab")
    tab.type("order-1")
    with tab.loading():
        tab.press("Enter")
    assert tab.evaluate("location.search") == "?id=order-1"
    assert "order-1 waits here" in tab.evaluate("document.body.innerText")


def test_enter_unfolds_the_settings(tab: Tab, url: str) -> None:
    tab.open(url)
    tab.evaluate("document.querySelector('summary').focus()")
    tab.press("Enter")
    assert "MESSAGE_TIMEOUT" in tab.evaluate("document.body.innerText")


# ---------------------------------------------------------------- contrast

# Of each text, also of those that styles add: what it says, and its contrast to what is behind it, as
# https://www.w3.org/TR/WCAG22/#contrast-minimum has it
CONTRAST = """
(() => {
  const parse = text => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number); return [r, g, b, a]; };
  const over = ([r, g, b, a], [x, y, z]) => [r * a + x * (1 - a), g * a + y * (1 - a), b * a + z * (1 - a), 1];
  const part = value => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  const ratio = (one, other) => {
    const [low, high] = [light(one), light(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const window = matchMedia("(prefers-color-scheme: dark)").matches ? [0, 0, 0, 1] : [255, 255, 255, 1];
  const behind = element => element
    ? over(parse(getComputedStyle(element).backgroundColor), behind(element.parentElement)) : window;
  const opacity = element => element ? getComputedStyle(element).opacity * opacity(element.parentElement) : 1;
  const found = [];
  const judge = (element, colour, text) => {
    const paper = behind(element), ink = parse(colour);
    ink[3] *= opacity(element);
    if (/\\S/.test(text) && element.checkVisibility()) found.push([text, ratio(over(ink, paper), paper)]);
  };
  for (const element of document.querySelectorAll("body, body *")) {
    for (const node of element.childNodes)
      if (node.nodeType === Node.TEXT_NODE) judge(element, getComputedStyle(element).color, node.data);
    for (const side of ["::before", "::after"]) {
      const { content, color } = getComputedStyle(element, side);
      if (content !== "none") judge(element, color, content);
    }
    if (element.tagName === "INPUT") judge(element, getComputedStyle(element).color, element.value);
  }
  return found;
})()
"""


def faint(tab: Tab) -> list[tuple[str, float]]:
    """The texts that are hard to read; there must be some that are not."""
    found = tab.evaluate(CONTRAST)
    assert len(found) > 5
    return [(text, contrast) for text, contrast in found if contrast < 4.5]


STATES = {
    "busy": lambda worker: None,
    "all fails": lambda worker: setattr(worker.loop, "snapshot_now", replace(BUSY, circuit_open_for=90.0)),
    "idle": lambda worker: setattr(
        worker.loop, "snapshot_now", replace(BUSY, waiting=0, oldest=(), calls=(), in_flight=0)
    ),
    "row refused": lambda worker: setattr(worker.watch.health, "refused", ("topic c does not exist",)),
}


@pytest.mark.parametrize(("state", "width"), [("busy", 360), *[(state, 1000) for state in STATES]])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(tab: Tab, worker: Worker, url: str, scheme: Scheme, width: int, state: str) -> None:
    STATES[state](worker)
    tab.looks(scheme, width)
    tab.open(f"{url}/?id=a%00b")
    unfold(tab)
    assert faint(tab) == []
    tab.scripts(allowed=False)  # the page's own would find that the worker does answer
    tab.evaluate("document.body.classList.add('gone')")
    assert "does not answer" in tab.evaluate("document.body.innerText")
    assert faint(tab) == []


def test_what_is_faint_is_noticed(tab: Tab) -> None:
    lines = "<p>1<p>2<p>3<p>4<p>5<p style='color:#777'>grey<p style='color:#767676'>dark enough<p style=opacity:.5>half"
    tab.open(f"data:text/html,{quote(lines)}")
    assert [text for text, _ in faint(tab)] == ["grey", "half"]


# ---------------------------------------------------------------- without scripts


def test_without_scripts_all_is_there_and_the_search_works(tab: Tab, worker: Worker, url: str) -> None:
    tab.open(url)
    with_scripts = tab.evaluate("document.body.innerText")
    tab.scripts(allowed=False)
    tab.open(url)
    assert tab.evaluate("document.body.innerText") == with_scripts
    tab.press("Tab")
    tab.type("order-7")
    with tab.loading():
        tab.press("Enter")
    assert "order-7 has been in process()" in tab.evaluate("document.body.innerText")
    assert complaints(tab, url) == []


def test_without_scripts_it_is_loaded_anew(tab: Tab, worker: Worker, url: str) -> None:
    tab.scripts(allowed=False)
    tab.open(f"{url}/?id=order-7")
    worker.loop.snapshot_now = replace(BUSY, calls=(CallView("order-7", 100.0),))
    tab.until("document.body?.innerText.includes('in process() for 1 min 40 s')")  # none while it is loaded


# ---------------------------------------------------------------- it refreshes itself


def test_new_numbers_come_by_themselves_and_leave_what_the_user_does_alone(tab: Tab, worker: Worker, url: str) -> None:
    tab.looks("light", 1000, 400)
    tab.open(url)
    unfold(tab)
    tab.press("Tab")
    tab.type("order-12")
    tab.evaluate("document.querySelector('input').setSelectionRange(2, 5)")
    tab.evaluate("scrollTo(0, 300)")
    worker.loop.snapshot_now = replace(BUSY, oldest=(waiting("new-one"), *BUSY.oldest[:19]))
    tab.until("document.body.innerText.includes('new-one')")
    kept = "[document.activeElement.id, id.value, id.selectionStart, id.selectionEnd, scrollY]"
    assert tab.evaluate(kept) == ["id", "order-12", 2, 5, 300]
    assert tab.evaluate("document.querySelector('details').open")
    assert complaints(tab, url) == []


def test_the_title_and_the_icon_of_the_tab_change_with_the_verdict(tab: Tab, worker: Worker, url: str) -> None:
    tab.open(url)
    icon = tab.evaluate("document.querySelector('link').href")
    worker.loop.snapshot_now = replace(BUSY, circuit_open_for=90.0)
    tab.until("document.title.includes('Circuit open')")
    assert tab.evaluate("document.querySelector('link').href") != icon


def test_a_refresh_leaves_focus_and_selection_inside_of_what_it_renews(tab: Tab, worker: Worker, url: str) -> None:
    tab.open(url)
    tab.evaluate("document.querySelector('footer a').focus()")
    tab.evaluate("getSelection().selectAllChildren(document.querySelector('main h2'))")
    worker.loop.snapshot_now = replace(BUSY, calls=(CallView("new-one", 1.0),))
    tab.until("document.body.innerText.includes('new-one')")
    assert tab.evaluate("document.activeElement.innerText") == "/status.json"
    assert tab.evaluate("getSelection().toString()").startswith("Waiting, oldest first")


def test_a_search_stays_a_search(tab: Tab, worker: Worker, url: str) -> None:
    tab.open(f"{url}/?id=order-7")
    worker.loop.snapshot_now = replace(BUSY, calls=(CallView("order-7", 100.0),))
    tab.until("document.body.innerText.includes('in process() for 1 min 40 s')")


def test_a_worker_that_is_gone_is_told_until_it_is_back(tab: Tab, worker: Worker) -> None:
    gone = "document.querySelector('#gone').checkVisibility()"
    with serving() as server:
        server.pages = worker.watch.pages()
        tab.open(address(server))
        tab.until(f"!{gone}")
    tab.until(gone)
    assert "order-0" in tab.evaluate("document.body.innerText")
    with serving(server.server_port) as server:
        server.pages = worker.watch.pages()
        tab.until(f"!{gone}")


# ---------------------------------------------------------------- its twins


def test_the_links_lead_to_the_same_as_json(tab: Tab, url: str) -> None:
    tab.open(url)
    for path in ("/status.json", "/waiting.json?limit=1000"):
        found = tab.evaluate(f"fetch('{path}').then(answer => answer.json())")
        assert "order-0" in json.dumps(found)
