"""The page of a fleet in a browser: 3, 40 and 200 rows, light and dark, on a phone, by keyboard, printed, as a file."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.fleet.fleets import STATES, consumer, fleet
from tests.monitoring.test_watch import HOSTILE
from tests.services.chromium import Scheme, Tab
from tests.test_browser import ATTACKS, LONG, STICKING_OUT, address, complaints, faint, serving, tab_stops
from utils.fleet.pages import POLICY, page
from utils.fleet.watcher import FleetSeen
from utils.monitoring.status import Answer, Server

ROWS = (3, 40, 200)
ALL_STATES = FleetSeen(
    "2026-01-02T03:05:00Z",
    (
        *(consumer(f"c{number}", [f"in{number}"], [f"out{number}"], each) for number, each in enumerate(STATES)),
        consumer("well", ["in1", "in2"], ["well-out"]),
    ),
)


@pytest.fixture(scope="session")  # tests of other files come in between
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


def answer(seen: FleetSeen, *, served: bool) -> Answer:
    return Answer("text/html; charset=utf-8", page(seen, served=served).encode(), POLICY)


def opened(tab: Tab, server: Server, seen: FleetSeen, *, served: bool = False) -> str:
    url = address(server)
    server.pages = {"/": lambda _: answer(seen, served=served)}
    tab.open(url)
    return url


# Outside of the picture, which may be larger than the window and is scrolled by itself.
OUTSIDE = STICKING_OUT.replace("body *", "body *:not(.picture):not(.picture *)")


def sticking_out(tab: Tab, width: int) -> list[str]:
    found: list[str] = tab.evaluate(OUTSIDE.replace("WIDTH", str(width)))
    whole = tab.evaluate("document.documentElement.scrollWidth")
    return found + ([f"the page is {whole} wide"] if whole > width else [])


# Of each text in the picture: what it says, and its contrast to the box that it stands in.
IN_BOXES = """
(() => {
  const part = value => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const light = text => { const [r, g, b] = text.match(/[\\d.]+/g).map(Number);
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b); };
  return [...document.querySelectorAll("svg text")].map(text => {
    const box = text.parentElement.querySelector(".box");
    const [low, high] = [light(getComputedStyle(text).fill), light(getComputedStyle(box).fill)].sort((a, b) => a - b);
    return [text.textContent, (high + 0.05) / (low + 0.05)];
  });
})()
"""
# Texts that are wider than the box that they stand in, and boxes that lie on each other.
OVERLAPS = """
(() => {
  const rects = [...document.querySelectorAll("svg .box")].map(each => each.getBBox());
  const wide = [...document.querySelectorAll("svg text")].filter(text => {
    const box = text.parentElement.querySelector(".box").getBBox(), own = text.getBBox();
    return own.x < box.x || own.x + own.width > box.x + box.width || own.y + own.height > box.y + box.height;
  }).map(each => each.textContent);
  rects.sort((a, b) => a.x - b.x || a.y - b.y);
  const on = rects.filter((a, at) => at && a.x === rects[at - 1].x && a.y < rects[at - 1].y + rects[at - 1].height);
  return wide.concat(on.map(each => `a box at ${each.x}, ${each.y}`));
})()
"""

# Titles of which a word sticks out or is broken, states and partitions that are on more than one line.
BROKEN = """
(() => {
  const lines = each => { const range = document.createRange(); range.selectNodeContents(each);
    return new Set([...range.getClientRects()].map(box => Math.round(box.top))).size; };
  const all = selector => [...document.querySelectorAll(selector)];
  return all("th").filter(each => each.scrollWidth > each.clientWidth || lines(each) > each.innerText.split(" ").length)
    .concat(all("tbody .state, tbody .worker").filter(each => lines(each) > 1)).map(each => each.innerText);
})()
"""


@pytest.mark.parametrize("rows", ROWS)
def test_each_consumer_and_each_topic_is_in_the_picture_and_each_consumer_in_the_list(
    tab: Tab, server: Server, rows: int
) -> None:
    seen = fleet(rows)
    url = opened(tab, server, seen)
    topics = {topic for each in seen.consumers for topic in (*each.topics_input, *each.topics_output)}
    edges = sum(len(each.topics_input) + len(each.topics_output) for each in seen.consumers)
    count = "document.querySelectorAll('{}').length"
    assert tab.evaluate(count.format("svg a")) == tab.evaluate(count.format("tbody tr")) == rows
    assert tab.evaluate(count.format("svg .topic")) == len(topics)
    assert tab.evaluate(count.format("svg .edge")) == edges
    assert tab.evaluate(count.format("svg .bad .mark")) == 2
    assert tab.evaluate(OVERLAPS) == []
    assert complaints(tab, url) == []


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("width", [320, 360, 768, 1000, 1440])
def test_nothing_sticks_out_at_any_width(tab: Tab, server: Server, rows: int, width: int) -> None:
    tab.looks("light", width)
    opened(tab, server, fleet(rows))
    assert sticking_out(tab, width) == []


def test_long_names_are_cut_in_the_picture_and_whole_in_the_list(tab: Tab, server: Server) -> None:
    tab.looks("light", 360)
    opened(tab, server, FleetSeen("2026-01-02T03:05:00Z", (consumer(LONG[:200], [LONG], ["out"]),)))
    assert sticking_out(tab, 360) == []
    assert tab.evaluate(OVERLAPS) == []
    assert LONG[:60] in tab.evaluate("document.querySelector('tbody').innerText")
    assert LONG[:200] in tab.evaluate("document.querySelector('svg a title').textContent")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(tab: Tab, server: Server, scheme: Scheme) -> None:
    for width in (360, 1400):
        tab.looks(scheme, width)
        opened(tab, server, ALL_STATES)
        assert faint(tab) == []
        found = tab.evaluate(IN_BOXES)
        assert len(found) > 20
        assert [(text, contrast) for text, contrast in found if contrast < 4.5] == []


def test_a_bad_one_is_seen_in_the_first_sentence_the_picture_and_the_first_line(tab: Tab, server: Server) -> None:
    seen = fleet(200, bad=1)
    [bad] = [each for each in seen.consumers if each.level == "bad"]
    opened(tab, server, seen)
    first = tab.evaluate("document.querySelector('main .verdict').innerText")
    assert [part for part in (bad.name, bad.state, bad.sentence) if part not in first] == []
    assert tab.evaluate("document.querySelector('tbody tr td').innerText") == bad.name
    fills = tab.evaluate("[...document.querySelectorAll('svg a .box')].map(each => getComputedStyle(each).fill)")
    assert sorted(map(fills.count, set(fills))) == [1, 199]
    assert bad.name in tab.evaluate("document.querySelector('svg a.bad').ariaLabel")


def test_edges_are_as_wide_as_what_flows(tab: Tab, server: Server) -> None:
    rates = (0.0, 1.0, 100.0, 10_000.0)
    made = tuple(consumer(f"c{rate:.0f}", [f"in{rate:.0f}"], [], rate=rate) for rate in rates)
    opened(tab, server, FleetSeen("2026-01-02T03:05:00Z", made))
    widths = "[...document.querySelectorAll('svg .edge')].map(each => parseFloat(each.getAttribute('stroke-width')))"
    found = tab.evaluate(widths)
    assert found == sorted(set(found))


def test_a_box_says_as_much_as_fits_and_cuts_no_number(tab: Tab, server: Server) -> None:
    made = consumer("c", ["a", "b"], [], STATES[0])
    opened(tab, server, FleetSeen("2026-01-02T03:05:00Z", (replace(made, unread=48_210, unfinished=1_234_567),)))
    assert tab.evaluate("document.querySelector('svg a.bad .facts').textContent") == "standing still · 48k unread …"
    opened(tab, server, FleetSeen("2026-01-02T03:05:00Z", (replace(made, state="behind", unread=999, unfinished=1),)))
    assert tab.evaluate("document.querySelector('svg a.bad .facts').textContent") == "behind · 999 unread · 1 wait"


def test_the_head_counts_also_what_should_be_looked_at_and_what_is_well(tab: Tab, server: Server) -> None:
    made = [consumer(name, ["a"], ["b"], STATES[each]) for name, each in (("still", 0), ("nobody", 1), ("letters", 6))]
    opened(tab, server, FleetSeen("2026-01-02T03:05:00Z", (*made, consumer("well", ["a"], ["b"]))))
    assert tab.evaluate("document.title") == ("Fleet: 2 of 4 consumers are bad, 1 should be looked at, 1 is well.")
    assert tab.evaluate("document.querySelector('svg a.warning .facts').textContent") == "idle · 3 dead letters"
    workers = "[...document.querySelectorAll('#consumers tbody tr')].map(each => each.cells[6].innerText.trim())"
    assert tab.evaluate(workers)[1] == "none"


@pytest.mark.parametrize("width", [1000, 1400])
def test_no_word_of_a_title_a_state_or_the_partitions_is_broken(tab: Tab, server: Server, width: int) -> None:
    tab.looks("light", width)
    opened(tab, server, fleet(40))
    assert tab.evaluate(BROKEN) == []


def test_circles_and_loose_ends_are_told(tab: Tab, server: Server) -> None:
    made = (consumer("one", ["a", "start"], ["b"]), consumer("two", ["b"], ["a", "end"]))
    opened(tab, server, FleetSeen("2026-01-02T03:05:00Z", made))
    text = tab.evaluate("document.querySelector('#notes').innerText")
    assert "A circle: " in text
    assert "Read by nobody of the table: end." in text
    assert "Written by nobody of the table: start." in text
    assert tab.evaluate("document.querySelectorAll('svg .edge.back').length") == 1
    opened(tab, server, fleet(3))
    assert "circle" not in tab.evaluate("document.body.innerText")


@pytest.mark.parametrize("width", [360, 1000])
def test_the_keyboard_reaches_the_bad_ones_the_picture_and_each_consumer(tab: Tab, server: Server, width: int) -> None:
    tab.looks("light", width)
    seen = fleet(3, bad=1, looked_at=0)
    opened(tab, server, seen)
    [bad] = [each.name for each in seen.consumers if each.level == "bad"]
    stops = tab_stops(tab)
    assert stops[:2] == [f"a {bad}", "input whole"]
    assert [each for each in stops if each.startswith("a n")] == ["a n2", "a n0", "a n1"] or len(stops) == 9
    assert {f"a {each.name}" for each in seen.consumers} <= set(stops)


def test_a_link_leads_from_the_first_sentence_to_the_line_and_from_there_to_the_picture(
    tab: Tab, server: Server
) -> None:
    seen = fleet(200, bad=1)
    opened(tab, server, seen)
    tab.press("Tab")
    tab.press("Enter")
    at = "(box => box.top >= 0 && box.bottom <= innerHeight)(document.querySelector(':target').getBoundingClientRect())"
    assert tab.evaluate(at)
    name = tab.evaluate("document.querySelector(':target').innerText")
    assert name in [each.name for each in seen.consumers if each.level == "bad"]
    tab.evaluate("document.querySelector(':target a').click()")
    assert tab.evaluate("document.querySelector(':target').ariaLabel").startswith(f"{name}: ")
    assert tab.evaluate(at)


def test_the_whole_picture_fits_into_the_window_when_asked_and_is_moved_in_it_else(tab: Tab, server: Server) -> None:
    tab.looks("light", 1000)
    opened(tab, server, fleet(40))
    wide = "document.querySelector('.picture').scrollWidth > document.querySelector('.picture').clientWidth"
    assert tab.evaluate(wide)
    tab.evaluate("document.querySelector('#whole').click()")
    assert not tab.evaluate(wide)


def test_printed_it_is_whole(tab: Tab, server: Server) -> None:
    tab.looks("light", 1000)
    opened(tab, server, fleet(40))
    tab.call("Emulation.setEmulatedMedia", media="print")
    fits = "document.querySelector('.picture svg').getBoundingClientRect().right <= innerWidth"
    assert tab.evaluate(fits)
    assert not tab.evaluate("document.querySelector('#whole').checkVisibility()")
    assert tab.call("Page.printToPDF", preferCSSPageSize=True)["data"]


def test_as_a_file_it_asks_for_nothing_and_has_no_script(tab: Tab, tmp_path: Path) -> None:
    file = tmp_path / "fleet.html"
    file.write_text(page(fleet(40)))
    assert "<script" not in file.read_text()
    tab.open(file.as_uri())
    asked = [each["request"]["url"] for each in tab.told("Network.requestWillBeSent")]
    assert [each for each in asked if not each.startswith((file.as_uri(), "data:image/svg+xml,"))] == []
    assert tab.evaluate("document.querySelectorAll('svg a').length") == 40


def test_served_it_renews_itself(tab: Tab, server: Server) -> None:
    url = opened(tab, server, fleet(3, bad=0), served=True)
    assert "bad" not in tab.evaluate("document.title")
    server.pages = {"/": lambda _: answer(fleet(3, bad=1), served=True)}
    tab.until("document.title.includes('1 of 3 consumers is bad')")
    assert complaints(tab, url) == []


def test_served_it_renews_itself_without_scripts_too(tab: Tab, server: Server) -> None:
    tab.scripts(allowed=False)
    opened(tab, server, fleet(3, bad=0), served=True)
    server.pages = {"/": lambda _: answer(fleet(3, bad=1), served=True)}
    tab.until("document.title.includes('1 of 3 consumers is bad')")


@pytest.mark.parametrize("text", [*ATTACKS, *HOSTILE], ids=lambda text: f"{ascii(text)[:20]}")
def test_hostile_text_does_nothing_and_moves_nothing(tab: Tab, server: Server, text: str) -> None:
    hostile: dict[str, Any] = {"name": text, "sentence": text, "topics_input": (text,), "cluster": text}
    seen = replace(
        ALL_STATES, problem=text, consumers=(replace(ALL_STATES.consumers[0], **hostile), *ALL_STATES.consumers)
    )
    tab.looks("light", 360)
    url = opened(tab, server, seen)
    assert complaints(tab, url) == []
    assert tab.evaluate("document.querySelectorAll('tbody tr').length") == len(STATES) + 2
    assert sticking_out(tab, 360) == []
