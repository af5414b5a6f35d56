"""process() of this working copy on messages that are there: how it is called, and what is told of it."""

import json
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer

import main
from config import ConfigError
from tests.builders import dispatcher, fragment, group
from tests.program import copied
from tests.services.starts import run_python
from utils.commands.cases import tried as tried_again
from utils.commands.samples import Samples
from utils.commands.trial import Timed, TooLarge, Trial, cases, failed, made_anonymous, report, run
from utils.joining.aggregator import Group
from utils.joining.messages import join
from utils.kafka.limits import RECORD_OVERHEAD
from utils.processing.coroutines import Coroutines
from utils.processing.outcome import Outcome, took_too_long
from utils.processing.runner import Hooks, Runner
from utils.processing.single_thread import SingleThread
from utils.processing.thread_pool import ThreadPool
from utils.processing.user_code import UserCode
from utils.retry import Reject

LARGEST = 1_000_000


def process(message: dict[str, Any], _consumer_name: str) -> Any:
    match str(message["id"]).partition("-")[0]:
        case "none":
            return None
        case "fail":
            raise ValueError(f"a secret: {message['content']}")
        case "raw":
            raise ValueError("\x1b[31m red\nand more")
        case "reject":
            raise Reject("no use")
        case "wrong":
            return "text"
        case "many":
            return [{"id": f"{message['id']}-{each}"} for each in range(7)]
        case "huge":
            return {"id": message["id"], "pad": "x" * LARGEST}
    message["content"]["seen"] = "a secret"
    return message


async def process_async(message: dict[str, Any], consumer_name: str) -> Any:
    return process(message, consumer_name)


def groups(*ids: str) -> list[Group]:
    return [group(id, fragment(value=json.dumps({"id": id, "content": {"was": "a secret"}}).encode())) for id in ids]


RUNNERS: dict[str, Callable[[Any], Runner]] = {
    "thread": lambda process: SingleThread(process, "shop"),
    "threads": lambda process: ThreadPool(process, "shop", 4),
    "coroutines": lambda process: Coroutines(process, "shop", 4),
}


def tried(samples: Sequence[Group], how: str = "thread") -> tuple[Trial, Timed]:
    timed = Timed(process_async if how == "coroutines" else process)
    runner = RUNNERS[how](timed.wrapped())
    runner.open()
    executor = dispatcher(runner)
    try:
        return run(samples, executor, threading.Event(), "shop", LARGEST), timed
    finally:
        runner.close(10)


def lines(trial: Trial, timed: Timed, samples: Samples | None = None, *, show: bool = False) -> list[str]:
    return list(report(trial, samples or Samples(), timed, show=show, as_json=False))


@pytest.mark.parametrize("how", RUNNERS)
def test_each_is_called_once_and_told_in_the_order_of_the_messages(how: str) -> None:
    ids = [f"{kind}-{number}" for number in range(10) for kind in ("whole", "none", "fail", "reject", "wrong", "many")]
    trial, timed = tried(groups(*ids), how)
    assert [outcome.group.id for outcome in trial.outcomes] == ids
    assert sorted(id for id, _ in timed.calls) == sorted(ids)
    assert trial.not_called == 0
    found = {outcome.group.id.partition("-")[0]: outcome for outcome in trial.outcomes}
    assert {kind: len(each.results) for kind, each in found.items() if not each.error} == {
        "whole": 1, "none": 0, "many": 7
    }  # fmt: skip
    assert {kind: type(each.error).__name__ for kind, each in found.items() if each.error} == {
        "fail": "ValueError", "reject": "Reject", "wrong": "InvalidResult"
    }  # fmt: skip


def test_two_messages_of_one_id_are_two() -> None:
    trial, _ = tried(groups("whole-1", "whole-1", "none-1"))
    assert len(trial.outcomes) == 3


def made(result: dict[str, Any], _message: dict[str, Any], _name: str) -> Any:
    return result


def test_what_the_client_would_not_take_has_failed() -> None:
    producer = Producer({"bootstrap.servers": "127.0.0.1:9", "message.max.bytes": LARGEST, "log_level": 0})
    room = LARGEST - RECORD_OVERHEAD - len("whole")
    for size, fits in ((room, True), (room + 1, False)):
        result = {"id": "whole", "pad": "x" * (size - len('{"id":"whole","pad":""}'))}
        runner = SingleThread(partial(made, result), "shop")
        runner.open()
        trial = run(groups("whole"), dispatcher(runner), threading.Event(), "shop", LARGEST)
        runner.close(10)
        [outcome] = trial.outcomes
        assert isinstance(outcome.error, TooLarge) == (not fits)
        if fits:
            [sent] = outcome.results
            assert len(sent.value) == size
            producer.produce("a", sent.value, sent.key)
        else:
            with pytest.raises(KafkaException) as refused:
                producer.produce("a", b"x" * size, b"whole")
            assert refused.value.args[0].code() == KafkaError.MSG_SIZE_TOO_LARGE
    producer.purge()


def test_a_call_that_hangs_ends_the_trial_and_the_others_are_not_called() -> None:
    hangs, stopping = threading.Event(), threading.Event()

    def waiting(message: dict[str, Any], _name: str) -> Any:
        return hangs.wait(60) if message["id"] == "b" else message

    runner = SingleThread(waiting, "shop")
    runner.open()
    executor = dispatcher(runner, timeout=0.05, on_stuck=stopping.set)
    trial = run(groups("a", "b", "c", "d"), executor, stopping, "shop", LARGEST)
    hangs.set()
    runner.close(10)
    assert [(each.group.id, type(each.error).__name__) for each in trial.outcomes] == [
        ("a", "NoneType"), ("b", "TimeoutError")
    ]  # fmt: skip
    assert trial.not_called == 2
    assert failed(trial, Samples(), [])


def test_without_show_no_value_and_no_text_of_an_error_is_told() -> None:
    trial, timed = tried(groups("whole-1", "none-1", "fail-1", "many-1"))
    for as_json in (False, True):
        told = "\n".join(report(trial, Samples(), timed, show=False, as_json=as_json))
        assert "secret" not in told
        assert "secret" in "\n".join(report(trial, Samples(), timed, show=True, as_json=as_json))
    assert "    + content.seen" in lines(trial, timed)
    assert "ValueError at test_trial.py:" in "\n".join(lines(trial, timed))
    assert '    + content.seen: "a secret"' in lines(trial, timed, show=True)
    assert "  … and 2 more" in lines(trial, timed)


def test_with_show_each_message_is_told_as_process_gets_it_and_none_drives_the_terminal() -> None:
    hostile = json.dumps({"id": "many-2", "content": {"was": "\x9b31m\u202e"}}, ensure_ascii=False).encode()
    no_message = group("fail-3", fragment(value=b'{"id": "fail-3" \x1b[31m'))
    given = [*groups("whole-1", "none-1", "fail-1", "raw-1"), group("many-2", fragment(value=hostile)), no_message]
    told = lines(*tried(given), show=True)
    starts = [f'    {{"id": "{id}"' for id in ("whole-1", "none-1", "fail-1", "raw-1", "many-2", "fail-3")]
    assert [start for start in starts if not any(line.startswith(start) for line in told)] == []
    assert all(line.isprintable() for line in told)
    assert any("\\x1b[31m red" in line for line in told)


def test_counts_come_last_with_the_slowest_calls_and_what_was_not_tried() -> None:
    trial, timed = tried(groups("whole-1", "none-1", "fail-1", "fail-2", "many-1"))
    timed.calls = [("whole-1", 0.5), ("none-1", 2.25), ("fail-1", 0.001)]
    samples = Samples([], {"x": ("b",), "y": ("b",)}, [("a:0:7", "no value")], "a note")
    told = lines(trial, timed, samples)
    told = told[told.index("") + 1 :]
    assert told[:3] == ["       2  forwarded (8 results)", "       1  filtered", "       2  failed"]
    assert told[4] == "slowest calls: none-1 2.2 s, whole-1 500.0 ms, fail-1 1.0 ms"
    assert told[5:] == [
        "       2  incomplete, not tried (2 lack b), such as x, y",
        "       1  no valid messages, such as a:0:7: no value",
        "a note",
    ]


def test_it_has_failed_where_a_message_did_or_nothing_was_tried_or_an_id_was_not_there() -> None:
    good, bad = tried(groups("whole-1", "none-1"))[0], tried(groups("whole-1", "fail-1"))[0]
    assert not failed(good, Samples(), [])
    assert failed(bad, Samples(), [])
    assert failed(Trial("shop"), Samples(), [])
    assert not failed(good, Samples(), ["whole-1", "none-1"])
    assert failed(good, Samples(), ["whole-1", "none-1", "whole-2"])


def test_a_failure_that_no_test_could_see_is_no_case() -> None:
    """The test of such a case was red at once, though nothing had changed: it knows no limit of a size or a time."""
    trial, _ = tried(groups("whole-1", "huge-1", "fail-1"))
    trial.outcomes.append(Outcome(groups("slow-1")[0], [], took_too_long(1)))
    assert [(case.message["id"], case.error) for case in cases(trial)] == [("whole-1", ""), ("fail-1", "ValueError")]
    for case in cases(trial):
        assert tried_again(case, process) == case


def test_process_is_called_with_what_was_made_anonymous() -> None:
    [changed] = made_anonymous(groups("whole-1"), ["content.was"])
    trial, _ = tried([changed])
    [case] = cases(trial)
    assert case.message["content"]["was"] != "a secret"
    assert case.results[0][1]["content"]["was"] == case.message["content"]["was"]
    with pytest.raises(ConfigError, match=r"content\.wos"):
        made_anonymous(groups("whole-1"), ["content.was", "content.wos"])
    [renamed] = made_anonymous(groups("whole-1"), ["id"])
    assert renamed.id != "whole-1"
    assert join(renamed.fragments)["id"] == renamed.id


PRINTS = """
import logging, subprocess, sys
logging.basicConfig(stream=sys.stdout, force=True)
print("while it is imported")

def process(message, consumer_name):
    print("in process()")
    logging.error("in its log")
    subprocess.run(["echo", "in a child"], check=True)
    return message
"""


def test_with_json_there_are_lines_of_json_and_no_others_whatever_worker_py_prints(tmp_path: Path) -> None:
    """What it printed while it was imported, and what a child printed, lay between them."""
    (tmp_path / "prints.py").write_text(PRINTS)
    directory = copied(tmp_path / "program", tmp_path / "prints.py", defaults='print("in defaults.py")')
    (tmp_path / "messages.jsonl").write_text('{"id": "1"}\n')
    done = run_python(["main.py", "try", "--file", str(tmp_path / "messages.jsonl"), "--json"], directory, {})
    assert [json.loads(line).get("state") for line in done.stdout.splitlines()] == ["forwarded", None], done.stderr
    for printed in ("in defaults.py", "while it is imported", "in process()", "in its log", "in a child"):
        assert printed in done.stderr


def test_messages_of_a_file_are_tried_without_kafka_and_without_a_database(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DATABASE_URL", "DB_HOST", "CONSUMER_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("utils.processing.user_code.load", lambda: UserCode(process, Hooks()))
    monkeypatch.setattr("utils.processing.user_code.defaults", dict)
    monkeypatch.setattr("utils.commands.try_out.CASES", tmp_path / "cases")
    monkeypatch.setattr("utils.commands.try_out.stop_on_signals", threading.Event)
    file = tmp_path / "messages.jsonl"
    file.write_text('{"id": "whole-1"}\n{"id": "none-2"}\n{"id": "huge-3"}\n')
    assert main.main(["try", "--file", str(file), "--json", "--save-tests"]) == 1
    told = capsys.readouterr()
    out = [json.loads(line) for line in told.out.splitlines()]
    assert [line.get("state") for line in out] == ["forwarded", "filtered", "failed", None]
    assert f"2 cases in {tmp_path / 'cases'} (1 left out: no test would see it fail as it did)\n" in told.err
    assert len(list((tmp_path / "cases").glob("*.json"))) == 2
    for name in ("DATABASE_URL_FILE", "KAFKA_SASL_PASSWORD_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "not there"))
    file.write_text('{"id": "whole-1"}\n{"id": "fail-2"}\n')
    assert main.main(["try", "--file", str(file)]) == 1
    assert main.main(["try", "--file", str(file), "--id", "whole-1"]) == 0
    assert main.main(["try", "--file", str(file), "--id", "whole-1", "--id", "nobody"]) == 1
    file.write_text('{"id": "whole-1"}\n{"id": \n')
    capsys.readouterr()
    assert main.main(["try", "--file", str(file)]) == 1, "a line of it was not tried"
    assert f"1  no valid messages, such as {file}:2: " in capsys.readouterr().out
    file.write_text('{"id": "whole-1"}\n{"id": "fail-2"}\n')
    assert main.main(["try", "--file", str(tmp_path / "not there")]) == 78
    assert main.main(["try", "--file", str(file), "--dlq"]) == 78
    assert main.main(["try", "--last", "0"]) == 78
    monkeypatch.setattr("utils.processing.user_code.defaults", lambda: {"CONSUMER_NAME": "paid-orders"})
    monkeypatch.setattr(
        "utils.processing.user_code.load", lambda: UserCode(lambda _message, name: {"by": name}, Hooks())
    )
    capsys.readouterr()
    assert main.main(["try", "--file", str(file), "--json", "--show"]) == 0
    assert "paid-orders" in capsys.readouterr().out
    monkeypatch.setattr("utils.commands.try_out.CASES", file / "no directory")
    assert main.main(["try", "--file", str(file), "--save-tests"]) == 78
    assert f"--save-tests: {file}/no directory cannot be written (Not a directory)" in capsys.readouterr().err


def test_where_setup_is_stopped_or_fails_it_says_so_and_no_traceback_of_ours(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while it loaded a model was an unexpected error, and a page of traceback."""
    stopping = threading.Event()

    def is_stopped() -> None:
        stopping.set()
        threading.Event().wait(60)

    def fails() -> None:
        raise RuntimeError("no model")

    monkeypatch.setattr("utils.processing.user_code.defaults", dict)
    monkeypatch.setattr("utils.commands.try_out.stop_on_signals", lambda: stopping)
    (file := tmp_path / "messages.jsonl").write_text('{"id": "1"}\n{"id": "2"}\n')
    said = []
    for setup in (fails, is_stopped):
        code = UserCode(process, Hooks(setup=setup))
        monkeypatch.setattr("utils.processing.user_code.load", lambda code=code: code)
        assert main.main(["try", "--file", str(file)]) == 1
        said.append(capsys.readouterr())
    assert "setup() failed" in said[0].err
    assert "2  not called: stopped" in said[1].out
    assert "unexpected error" not in said[0].err + said[1].err
