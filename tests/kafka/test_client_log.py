"""What Kafka's clients say by themselves comes into the log once, and without logins."""

import logging
from collections import Counter

import pytest

from config import Settings
from models import Row
from tests.integration.workers import eventually
from utils.kafka.clients import client_properties, producer
from utils.logger import logger


def test_the_log_tells_what_clients_warn_of_but_not_that_a_property_belongs_to_the_other_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    row = Row.validated("orders", "a,b", "c", "127.0.0.1:1")
    properties = client_properties(Settings(kafka={"session.timeout.ms": "9000"}), row)
    client = producer(properties, lambda *_: None)
    logger.getChild("kafka").warning("CONFWARN: something else")
    client.flush(0)  # the client hands its own lines over here
    warnings = [record.getMessage() for record in caplog.records if "CONFWARN" in record.getMessage()]
    assert warnings == ["CONFWARN: something else"]


def test_a_line_that_a_client_repeats_is_logged_once_but_not_one_of_its_debugging(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Without a thread to be had for a broker it comes some 50 times a second, for each."""
    caplog.set_level(logging.DEBUG, "consumer")
    client_properties(Settings(), Row.validated("orders", "a,b", "c", "127.0.0.1:1"))
    for _ in range(3):
        for broker in (1, 2):
            logger.getChild("kafka").critical("THREAD: no thread for broker %s", broker)
        logger.getChild("kafka").debug("FETCH: nothing")
    told = Counter(record.getMessage() for record in caplog.records)
    assert told == {"THREAD: no thread for broker 1": 1, "THREAD: no thread for broker 2": 1, "FETCH: nothing": 3}


def test_a_login_in_the_address_of_a_token_endpoint_is_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    properties = {
        "security.protocol": "sasl_plaintext",
        "sasl.mechanism": "OAUTHBEARER",
        "sasl.oauthbearer.method": "oidc",
        "sasl.oauthbearer.token.endpoint.url": "http://bob:topsecret@127.0.0.1:1/token",
        "sasl.oauthbearer.client.id": "id",
        "sasl.oauthbearer.client.secret": "alsosecret",
    }
    client = producer(client_properties(Settings(kafka=properties), Row.validated("o", "a", "b", "127.0.0.1:1")), print)
    eventually(lambda: [client.poll(0.05), "Failed to retrieve OIDC token" in caplog.text][1], "its line")
    assert "http://***@127.0.0.1:1/token" in caplog.text
    assert "topsecret" not in caplog.text
    assert "alsosecret" not in caplog.text
