"""A headless Chromium for tests, spoken to by its DevTools protocol. Knows nothing of the pages that it shows.

    with headless_chromium() as browser, browser.tab() as tab:
        tab.open(url)
        tab.press("Tab")
        tab.evaluate("document.activeElement.id")

The protocol: https://chromedevtools.github.io/devtools-protocol/
"""

import base64
import itertools
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

from websockets.sync.client import ClientConnection, connect

from tests.services.processes import ServerProcess, Unavailable, running, scratch_directory

NAMES = ("chromium", "google-chrome", "chromium-browser")
SECONDS = 60.0  # how long anything may take

Scheme = Literal["light", "dark"]

# No sandbox: it cannot be had as root, nor in most containers, and only pages of our own are shown.
# No /dev/shm: in containers it is 64 MB small. No background network: what is requested, the page has requested.
OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--hide-scrollbars",
    "--no-first-run",
    "--remote-debugging-port=0",
)
# What a key does beside being pressed: its code in Windows, and the text that it enters.
KEYS = {"Tab": (9, ""), "Enter": (13, "\r")}
FORGET = "try { localStorage.clear(); sessionStorage.clear() } catch {}"  # not every page has them
PASSED = "Emulation.virtualTimeBudgetExpired"


class Event(NamedTuple):
    """What the browser tells of a tab without being asked."""

    method: str
    params: dict[str, Any]


class Refused(Exception):
    """The browser answers with an error, or the script has thrown one."""


@contextmanager
def headless_chromium() -> Iterator["Chromium"]:
    """A running browser. Unavailable if there is none on the PATH."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        raise Unavailable(f"no {NAMES[0]}")
    # Its last processes may still write into their profile when the first one has ended.
    with scratch_directory("chromium", ignore_cleanup_errors=True) as directory:
        profile = Path(directory) / "profile"
        address = profile / "DevToolsActivePort"  # two lines: port, and path of the socket
        process = ServerProcess(
            [program, *OPTIONS, f"--user-data-dir={profile}", "about:blank"],
            ready=lambda: address.exists() and len(address.read_text().split()) == 2,
            log=Path(directory) / "log",
        )
        with running(process):
            port, path = address.read_text().split()
            browser = Chromium(f"ws://127.0.0.1:{port}{path}")
            with browser.tab() as tab:
                browser.description = tab.call("Browser.getVersion")["product"].replace("/", " ")
            yield browser


class Chromium:
    """`description`: product and version."""

    def __init__(self, address: str) -> None:
        self._address = address
        self.description = ""

    @contextmanager
    def tab(self) -> Iterator["Tab"]:
        """An empty tab that shares no cookies and no cache with others, closed at the end."""
        with connect(self._address, max_size=None, open_timeout=SECONDS, ping_interval=None, proxy=None) as socket:
            tab = Tab(socket)
            tab.attach()
            try:
                yield tab
            finally:
                tab.close()


class Tab:
    """A page, and in `events` all that was told of it since it was opened, or begun anew."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._session: dict[str, str] = {}
        self._context = self._target = ""
        self._is_spent = False
        self.events: list[Event] = []

    def attach(self) -> None:
        self._context = self.call("Target.createBrowserContext", disposeOnDetach=True)["browserContextId"]
        self._target = self.call("Target.createTarget", url="about:blank", browserContextId=self._context)["targetId"]
        self._is_spent = False
        self._listen()

    def _listen(self) -> None:
        target = {"targetId": self._target, "flatten": True}
        self._session = {"sessionId": self.call("Target.attachToTarget", **target)["sessionId"]}
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)  # one window has the focus, and there may be many

    def close(self) -> None:
        self._session = {}
        self.call("Target.disposeBrowserContext", browserContextId=self._context)

    def begin_anew(self) -> None:
        """Make it what a new one is, without the new process that each new one takes."""
        # A page's clock cannot be given back, and one of an error is still on its way.
        if self._is_spent or not self._is_emptied():
            self.close()
            self.events.clear()
            self.attach()
            return
        self.call("Page.resetNavigationHistory")
        session, self._session = self._session, {}
        self.call("Target.detachFromTarget", **session)  # which ends all that the session has had it look like
        self.events.clear()
        self._listen()

    def _is_emptied(self) -> bool:
        """False where the page went somewhere else by itself meanwhile."""
        self.evaluate(FORGET)
        self.call("Network.clearBrowserCookies")
        self.call("Network.clearBrowserCache")
        with self.loading():
            self.evaluate("location.replace('about:blank')")  # by the page itself: stays in its process
        return bool(self.evaluate("location.href") == "about:blank")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of the protocol; its result. Raises Refused."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params, **self._session}))
        deadline = time.monotonic() + SECONDS
        while (told := self._next(deadline)).get("id") != number:
            pass
        if "error" in told:
            raise Refused(f"{method}: {told['error']['message']}")
        result: dict[str, Any] = told["result"]
        return result

    def _next(self, deadline: float) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self._socket.recv(timeout=deadline - time.monotonic()))
        if "method" in told:
            self.events.append(Event(told["method"], told["params"]))
        return told

    def told(self, method: str) -> list[dict[str, Any]]:
        """The events of this kind."""
        return [event.params for event in self.events if event.method == method]

    def awaits(self, method: str, times: int = 1) -> dict[str, Any]:
        """The `times`-th event of this kind."""
        deadline = time.monotonic() + SECONDS
        while len(self.told(method)) < times:
            self._next(deadline)
        return self.told(method)[times - 1]

    def open(self, url: str) -> None:
        """Go there, and return when all of it is loaded."""
        with self.loading():
            error = self.call("Page.navigate", url=url).get("errorText")
            if error:
                self._is_spent = True
                raise Refused(f"{url}: {error}")

    @contextmanager
    def loading(self) -> Iterator[None]:
        """What is done inside goes to another page: return when that is loaded."""
        loaded = len(self.told("Page.loadEventFired"))
        yield
        self.awaits("Page.loadEventFired", loaded + 1)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, also where the page may run no scripts. Raises Refused."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise Refused(answer["exceptionDetails"]["exception"]["description"])
        return answer["result"].get("value")

    def hurry(self, seconds: float) -> None:
        """Have that time pass for the page at once, except while it waits for the network; then its clock stands."""
        self._is_spent = True
        budget = {"policy": "pauseIfNetworkFetchesPending", "budget": seconds * 1000}
        self.call("Emulation.setVirtualTimePolicy", **budget)

    def passes(self, seconds: float) -> None:
        """The same, and return when it has passed, for a page that stays."""
        passed = len(self.told(PASSED))
        self.hurry(seconds)
        self.awaits(PASSED, passed + 1)

    def until(self, expression: str) -> None:
        """Have time pass for the page, some seconds at a time, until this is true in it."""
        deadline = time.monotonic() + SECONDS
        while not self.evaluate(expression):
            assert time.monotonic() < deadline, f"not true within {SECONDS:g} s: {expression}"
            self.passes(5)

    def press(self, key: str) -> None:
        """Press and release one of KEYS."""
        code, text = KEYS[key]
        facts = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **facts)
        self.call("Input.dispatchKeyEvent", type="keyUp", **facts)

    def type(self, text: str) -> None:
        self.call("Input.insertText", text=text)

    def looks(self, scheme: Scheme, width: int, height: int = 800, scale: float = 1) -> None:
        """The colour scheme that the user prefers, and the size of the window, in CSS pixels."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)

    def scripts(self, *, allowed: bool) -> None:
        """Whether pages may run theirs, from the next one on."""
        self.call("Emulation.setScriptExecutionDisabled", value=not allowed)

    def picture(self) -> bytes:
        """What the window shows, as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
