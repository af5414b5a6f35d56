"""The browser of the tests: it does what a user does, and tells what a page does that it should not."""

import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import ClassVar

import pytest

from tests.services.chromium import Chromium, Refused, Tab

FORM = "<title>Form</title><form><input id=first><button id=second>Go</button></form>"


def html(content: str) -> str:
    return f"data:text/html,{content}"


def test_keys_go_to_what_has_the_focus(tab: Tab) -> None:
    tab.open(html(FORM))
    tab.press("Tab")
    tab.type("x")
    assert tab.evaluate("document.activeElement.id + first.value") == "firstx"
    tab.press("Tab")
    assert tab.evaluate("document.activeElement.id") == "second"


def test_a_page_has_the_width_and_the_colours_that_are_asked_for(tab: Tab) -> None:
    tab.open(html("<meta name=viewport content=width=device-width>"))
    tab.looks("dark", 360)
    assert tab.evaluate("[innerWidth, matchMedia('(prefers-color-scheme: dark)').matches]") == [360, True]
    tab.looks("light", 1000)
    assert tab.evaluate("[innerWidth, matchMedia('(prefers-color-scheme: dark)').matches]") == [1000, False]


def test_pages_run_no_scripts_where_they_may_not(tab: Tab) -> None:
    tab.scripts(allowed=False)
    tab.open(html("<script>document.title = 'ran'</script><noscript><p></noscript>"))
    assert tab.evaluate("document.title") == ""
    assert tab.evaluate("document.querySelectorAll('p').length") == 1


def test_what_a_page_says_and_asks_for_is_told(tab: Tab) -> None:
    tab.open(html("<script>console.error('oh')</script><img src='http://127.0.0.1:1/picture'>"))
    [said] = tab.told("Runtime.consoleAPICalled")
    assert said["args"][0]["value"] == "oh"
    assert "http://127.0.0.1:1/picture" in [each["request"]["url"] for each in tab.told("Network.requestWillBeSent")]


def test_a_page_that_is_not_there_and_a_script_that_fails_are_errors(tab: Tab) -> None:
    with pytest.raises(Refused, match="ERR_"):
        tab.open("http://127.0.0.1:1/")
    with pytest.raises(Refused, match="nothing is not defined"):
        tab.evaluate("nothing")


def test_an_hour_of_a_page_passes_at_once(tab: Tab) -> None:
    tab.open(html("<script>let turns = 0; setInterval(() => turns++, 60000)</script>"))
    tab.passes(3601)
    assert tab.evaluate("turns") == 60
    tab.passes(60)
    assert tab.evaluate("turns") == 61
    tab.until("turns === 65")


class Noting(BaseHTTPRequestHandler):
    """Gives a page that may be kept, and a cookie; notes what is asked for."""

    asked: ClassVar[list[tuple[str, str | None]]] = []

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers.get("Cookie")))
        self.send_response(200)
        for name, value in (("Content-Type", "text/html"), ("Set-Cookie", "a=b"), ("Cache-Control", "max-age=600")):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b"<title>Kept</title><link rel=icon href=data:,><p style=height:9000px><a href=/>x</a>")

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def noting() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Noting)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


EMPTY = """
(() => [innerWidth, devicePixelRatio, matchMedia("(prefers-color-scheme: dark)").matches, matchMedia("print").matches,
  document.title, history.length, location.href, document.hasFocus(), document.visibilityState, typeof left])()
"""
TOLD = {"Page.loadEventFired", "Runtime.consoleAPICalled", "Log.entryAdded", "Network.requestWillBeSent"}
OPENED = "[localStorage.length, sessionStorage.length, history.length, scrollY, document.activeElement.tagName]"


def test_a_tab_that_begins_anew_is_as_a_new_one(chromium: Chromium, noting: str) -> None:
    seen = []
    with chromium.tab() as tab:
        for is_hurried in (False, True, False):
            told = [each.method for each in tab.events if each.method in TOLD], tab.evaluate(EMPTY)
            tab.open(f"{noting}/")
            days_ahead = round((tab.evaluate("Date.now()") / 1000 - time.time()) / 86_400)
            seen.append((*told, tab.evaluate(OPENED), days_ahead))
            tab.evaluate("localStorage.a = sessionStorage.a = window.left = 1; scrollTo(0, 99); console.log('left')")
            tab.press("Tab")
            tab.looks("dark", 360, 400, 2)
            tab.call("Emulation.setEmulatedMedia", media="print")
            tab.open(f"{noting}/other")
            tab.scripts(allowed=False)
            if is_hurried:
                tab.passes(86_400)
            assert tab.evaluate(EMPTY) != told[1]
            tab.begin_anew()
    assert seen[1:] == seen[:1] * 2
    assert Noting.asked == [("/", None), ("/other", "a=b")] * 3
