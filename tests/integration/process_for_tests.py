"""A worker.py for the tests: as the shipped one, but slow, failing or blocking where its environment says so."""

import asyncio
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

from utils.retry import Reject, Retry

SECONDS = float(os.environ.get("PROCESS_SECONDS", "0"))  # that each call takes
BLOCKED = os.environ.get(
    "PROCESS_BLOCKED", ""
)  # a file: while it exists, calls with an id in it (empty: all) do not return
FAILING = os.environ.get("PROCESS_FAILING", "")  # a file: the ids in it, one a line, raise
ODD = os.environ.get("PROCESS_ODD", "")  # ids that begin so are filtered, fail, or make a bad result
RANDOM = float(os.environ.get("PROCESS_RANDOM", "0"))  # share of all calls that raise
SIZE = int(os.environ.get("PROCESS_SIZE", "2000000"))  # bytes of what is to be too large
MANY = int(os.environ.get("PROCESS_MANY", "0"))  # results of what is to have many
BAD = os.environ.get("PROCESS_BAD", "")  # a file: while it exists, ids that begin with bad raise, or later: for an hour
DOWN = os.environ.get("PROCESS_DOWN", "")  # a file: while it exists, all raise
HOOKS = os.environ.get("PROCESS_HOOKS", "")  # a file in which setup() and teardown() are noted
SETUP_FAILS = os.environ.get("PROCESS_SETUP_FAILS", "")


if os.environ.get("PROCESS_STUCK"):  # the loop's thread, which imports this, waits for ever at SIGUSR1
    signal.signal(signal.SIGUSR1, lambda *_: time.sleep(1e6))


def setup() -> None:
    _note("setup")
    if SETUP_FAILS == "hang":
        time.sleep(1e6)
    if SETUP_FAILS:
        raise SystemExit(0) if SETUP_FAILS == "exit" else RuntimeError(SETUP_FAILS)


def teardown() -> None:
    _note("teardown")


def _note(hook: str) -> None:
    if HOOKS:
        with Path(HOOKS).open("a") as file:
            file.write(f"{hook}\n")


def process(message: dict[str, Any], consumer_name: str) -> Any:
    if SECONDS:
        time.sleep(SECONDS)
    while _blocks(str(message["id"])):
        time.sleep(0.01)
    if ODD and str(message["id"]).startswith("kill-"):
        os._exit(139)  # as a crash in a library would
    if DOWN and Path(DOWN).exists():
        raise ConnectionError("the service is down")
    if BAD and str(message["id"]).startswith(("bad", "later")) and Path(BAD).exists():
        raise Retry("a failure that the test asked for", after=3600 if str(message["id"]).startswith("later") else None)
    if FAILING and str(message["id"]) in Path(FAILING).read_text().split():
        raise RuntimeError("a failure that the test asked for")
    if random.random() < RANDOM and not str(message["id"]).startswith("wrong"):  # its last attempt gives the reason
        raise RuntimeError("a failure by chance")
    return _odd(message) if ODD else message


def _odd(message: dict[str, Any]) -> Any:
    match str(message["id"]).partition("-")[0]:
        case "none":
            return None
        case "fail":
            raise ZeroDivisionError("a failure that the test asked for")
        case "reject":
            raise Reject("a failure that the test asked for, without further attempts")
        case "wrong":
            return {"id": message["id"], "content": {"what": object()}}
        case "huge":
            return {"id": message["id"], "pad": "x" * SIZE}
        case "smaller":  # than the one before
            return {"id": message["id"], "pad": "x" * (SIZE - 100 * int(message["id"].rpartition("-")[2]))}
        case "many":
            return [{"id": f"{message['id']}-{number}", "content": {"number": number}} for number in range(MANY)]
        case "big":
            return {"id": message["id"], "pad": "x" * 2_000_000}  # more than the client takes, whatever the topic does
    return message


async def process_async(message: dict[str, Any], consumer_name: str) -> dict[str, Any]:
    if SECONDS:
        await asyncio.sleep(SECONDS)
    match str(message["id"]).partition("-")[0] if ODD else "":
        case "exit":
            await asyncio.gather(_exit())
        case "kill":  # the event loop, for good
            asyncio.get_running_loop()._run_once = None  # type: ignore[attr-defined]
            await asyncio.sleep(1e6)
    return message


async def _exit() -> None:
    raise SystemExit(3)


if os.environ.get("PROCESS_ASYNC"):
    process = process_async


def _blocks(id: str) -> bool:
    try:
        ids = Path(BLOCKED).read_text().split() if BLOCKED else [""]
    except FileNotFoundError:
        return False
    return not ids or id in ids
