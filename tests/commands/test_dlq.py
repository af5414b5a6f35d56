"""How `dlq` ends: where Kafka does not answer, setup() does not come to its end, or all fails once more."""

import argparse
import threading
from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError, KafkaException

import main
from config import ConfigError, Settings, UnavailableError
from models import Row
from utils.commands import dlq
from utils.kafka import preflight, rights
from utils.kafka.preflight import Cluster
from utils.processing.attempts import OUTAGE
from utils.retry import Retry
from utils.running.lifetime import Stopped
from utils.running.refresh import Config

SETTINGS = Settings.read({"CONSUMER_NAME": "orders", "DATABASE_URL": "sqlite:///orders.db"})


@pytest.mark.parametrize("command", ["list", "show", "replay", "discard"])
def test_each_of_them_takes_an_id_in_the_same_way(command: str) -> None:
    """Of show it was a usage, and an error."""
    assert main._parser().parse_args(["dlq", command, "--id", "1001"]).id == "1001"
    assert main._parser().parse_args(["dlq", command]).id is None


def test_show_takes_one_id_by_itself_and_not_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert main._parser().parse_args(["dlq", "show", "1001"]).id == "1001"
    with pytest.raises(SystemExit):
        main._parser().parse_args(["dlq", "show", "1001", "--id", "1002"])
    assert "not allowed with argument" in capsys.readouterr().err


ALL = argparse.Namespace(reason="", id="", since=None, until=None, all=True, dry_run=False)
ENDED_BEFORE_ITS_TIME = "stopped: what it has not come to stays as it was"


def test_a_replay_that_is_stopped_in_setup_says_so_and_is_no_success(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It said nothing and ended with 0, as if all had been replayed."""

    def raises(*_: object) -> None:
        raise Stopped

    monkeypatch.setattr(dlq, "opened_calls", raises)
    monkeypatch.setattr(dlq, "stop_on_signals", lambda: None)
    dead = dlq.DeadLetterTopic(Config(SETTINGS, Row.validated("orders", "a", "out", "127.0.0.1:1")), "orders-dlq")
    assert dlq.dlq_replay(ALL, dead) == 1
    assert capsys.readouterr().out == f"{ENDED_BEFORE_ITS_TIME}\n       0  replayed\n"


def test_so_is_a_run_that_is_stopped_before_it_has_begun_or_between_two_attempts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """While Kafka was away."""
    monkeypatch.setattr(dlq, "_go_through", lambda *_: None)
    monkeypatch.setattr(dlq, "stop_on_signals", threading.Event)
    dead = dlq.DeadLetterTopic(Config(SETTINGS, Row.validated("orders", "a", "out", "127.0.0.1:1")), "orders-dlq")
    assert dlq.dlq_discard(ALL, dead) == 1
    assert capsys.readouterr().out == f"{ENDED_BEFORE_ITS_TIME}\n       0  discarded\n"
    monkeypatch.setattr(dlq, "opened_calls", lambda *_: SimpleNamespace(dispatcher=None, close=lambda: None))
    assert dlq.dlq_replay(ALL, dead) == 1
    assert capsys.readouterr().out == f"{ENDED_BEFORE_ITS_TIME}\n       0  replayed\n"


def test_process_is_given_the_name_of_the_consumer_in_a_replay_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was given that of the consumer group of the replay: a key that is made of it was another one."""
    row = Row.validated("orders", "a", "out", "127.0.0.1:1")
    monkeypatch.setattr(preflight, "look", lambda *_: Cluster((), {"orders-dlq": 1, "out": 1}, embedded=True))
    monkeypatch.setattr(rights, "missing_dead_letter_rights", lambda *_: [])
    dead = dlq.dead_letter_topic(SETTINGS, row, row.topics_output)
    assert dead.config.settings.consumer_name == "orders-dlq-replay", "what Kafka is told"

    given = []

    def opened(settings: Settings, *_: object) -> None:
        given.append(settings.consumer_name)
        raise Stopped

    monkeypatch.setattr(dlq, "opened_calls", opened)
    monkeypatch.setattr(dlq, "stop_on_signals", lambda: None)
    dlq.dlq_replay(ALL, dead)
    assert given == ["orders"]


def test_a_replay_to_a_topic_that_does_not_exist_is_refused_before_anything_is_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """process() was called with every letter, six times, and nothing said why."""
    row = Row.validated("orders", "gone", "out", "127.0.0.1:1")
    monkeypatch.setattr(preflight, "look", lambda *_: Cluster((), {"orders-dlq": 1}, embedded=True))
    with pytest.raises(ConfigError) as refused:
        dlq.dead_letter_topic(SETTINGS, row, row.topics_output)
    [problem] = refused.value.problems
    assert problem.startswith("topic out of topics_output does not exist")
    for written in (None, ()):  # who lists or discards sends nothing there
        assert dlq.dead_letter_topic(SETTINGS, row, written).topic == "orders-dlq"


@pytest.mark.parametrize("error", [ValueError(), Retry("busy", after=59), Retry("busy", after=61), Retry("busy")])
def test_a_replay_ends_though_all_letters_fail_again(error: Exception) -> None:
    attempts, now, dues = dlq.attempts_of_replay(SETTINGS), 0.0, dict.fromkeys(map(str, range(5 * OUTAGE)), 0.0)
    while dues:
        id, now = min(dues.items(), key=lambda item: item[1])
        due = attempts.failed(id, error, now)
        if due is None:
            del dues[id]
        else:
            dues[id] = due
        assert not attempts.circuit.is_open
    assert now < 5 * 60
    assert attempts.made("0") == (1 if getattr(error, "after", None) == 61 else SETTINGS.process_attempts)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (KafkaError._TRANSPORT, UnavailableError),
        (KafkaError.NOT_COORDINATOR, UnavailableError),
        (KafkaError.GROUP_AUTHORIZATION_FAILED, ConfigError),
    ],
)
def test_what_kafka_refuses_while_dead_letters_are_looked_for_is_told_in_a_line(
    monkeypatch: pytest.MonkeyPatch, code: int, error: type[Exception]
) -> None:
    def raises(*_: object) -> None:
        raise KafkaException(KafkaError(code, retriable=code == KafkaError.NOT_COORDINATOR))

    monkeypatch.setattr(dlq, "letters", raises)
    row = Row.validated("orders", "a", "out", "127.0.0.1:1")
    with pytest.raises(error):
        next(dlq.DeadLetterTopic(Config(SETTINGS, row), "orders-dlq").find())
