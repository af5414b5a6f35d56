"""Nothing that the client calls lets an exception out: each callback that it is given anywhere is a guarded one."""

import ast
import logging
from collections.abc import Iterator

import pytest
from confluent_kafka import KafkaError, KafkaException

from tests.program import ROOT
from tests.test_imports import SHIPPED
from utils.errors import guarded
from utils.kafka import client_log
from utils.kafka.client_log import ClientLog
from utils.sending.outbox import unmasked

IN_PROPERTIES = {"error_cb", "throttle_cb", "stats_cb", "oauth_cb", "log_cb", "on_commit", "on_delivery", "logger"}
NAMED = {"on_assign", "on_revoke", "on_lost", "on_delivery", "on_commit", "callback", "on_throttle"}
GIVEN_ON = {"on_commit", "on_delivery", "report"}  # parameters of what makes a client
TAKERS = {"consumer": 2, "producer": 1, "kafka_producer": 1}  # which of their arguments is a callback
SAFE = ("guarded(", "unheard", "to_log(", "silent(")


def handed_over(path: str) -> Iterator[tuple[str, str]]:
    """What a file gives to a client to be called: where, and what it is."""
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Dict):
            pairs = [
                (key.value, value)
                for key, value in zip(node.keys, node.values, strict=True)
                if isinstance(key, ast.Constant)
            ]
            yield from ((str(key), ast.unparse(value)) for key, value in pairs if key in IN_PROPERTIES)
        elif isinstance(node, ast.Assign) and isinstance(target := node.targets[0], ast.Subscript):
            if isinstance(target.slice, ast.Constant) and target.slice.value in IN_PROPERTIES:
                yield str(target.slice.value), ast.unparse(node.value)
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func).rpartition(".")[2]
            if called == "subscribe":
                yield from ((str(each.arg), ast.unparse(each.value)) for each in node.keywords if each.arg in NAMED)
            if called in TAKERS and node.args:  # the others may have been given before
                yield called, ast.unparse(node.args[min(TAKERS[called], len(node.args) - 1)])


def test_each_callback_that_a_client_is_given_is_guarded() -> None:
    of_clients = [(path, *each) for path in SHIPPED for each in handed_over(path)]
    assert len(of_clients) >= 15, "they are not found any more"
    bare = [each for each in of_clients if not each[2].startswith(SAFE) and each[2] not in GIVEN_ON]
    assert not bare
    given_on = {path for path, _, what in of_clients if what in GIVEN_ON}
    assert given_on == {"utils/kafka/clients.py", "utils/running/assembly.py"}


def test_a_guarded_callback_lets_nothing_out_and_tells_what_it_was() -> None:
    told: list[Exception] = []

    def fails(*_arguments: object) -> None:
        raise ZeroDivisionError

    guarded(fails, told.append)("error", "record")
    guarded(fails, fails)("error", "record")
    assert [type(each) for each in told] == [ZeroDivisionError]


def test_a_log_that_cannot_be_written_keeps_the_client_from_nothing() -> None:
    class Full(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError

    log = logging.Logger("full")
    log.addHandler(Full())
    ClientLog(log).log(logging.ERROR, "%s [%s] %s", "FAIL", "rdkafka", "gone")


def test_the_error_of_the_client_is_told_where_it_raises_another_one_in_its_place() -> None:
    fenced = KafkaException(KafkaError(KafkaError._FENCED))
    with pytest.raises(KafkaException) as raised, unmasked():
        raise SystemError("a result with an exception set") from fenced
    assert raised.value is fenced
    with pytest.raises(KafkaException) as raised, unmasked():
        raise SystemError("NULL without an exception")
    assert raised.value.args[0].code() == KafkaError._FATAL


def test_of_a_broker_that_hangs_the_client_s_guess_is_left_out() -> None:
    """ "probably due to broker version < 0.10", of a Kafka 4.3: that it cannot be reached is said by `error_cb`."""

    def is_news(level: int, text: str) -> bool:
        return client_log._is_news(logging.LogRecord("consumer.kafka", level, "", 0, text, (), None))

    guess = "ApiVersionRequest failed: Local: Timed out: probably due to broker version < 0.10"
    assert not is_news(logging.WARNING, f"FAIL [orders#producer-1] [thrd:h:9092/bootstrap]: h:9092/bootstrap: {guess}")
    assert is_news(logging.INFO, "FAIL [orders#producer-1] [thrd:h:9092/1]: h:9092/1: Disconnected")
    assert is_news(logging.WARNING, f"REQTMOUT [orders#producer-1] {len(guess)}: Timed out 1 in-flight")
