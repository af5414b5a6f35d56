"""What a worker is made of: ids of transactions, and topics of its own."""

import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from threading import Event
from typing import Any, cast

import pytest
from confluent_kafka import Consumer, ThrottleEvent

from config import Settings, UnavailableError
from models import Row
from tests.builders import partition_offsets
from utils.joining.messages import Fragment, InvalidMessage
from utils.kafka import needed_topics, preflight
from utils.kafka.preflight import Cluster
from utils.metrics import Counters
from utils.processing.executor import Retrying
from utils.reading.in_step import InStep
from utils.running.assembly import KafkaClients, Surroundings, intake_of, links_of, provides_topics, transactional_id
from utils.running.refresh import Config
from utils.sending.refusals import Refusals
from utils.sparing import LINES

CONFIG = Config(
    Settings.read({"CONSUMER_NAME": "shop", "DATABASE_URL": "sqlite:///x"}), Row.validated("shop", "a,b", "out", "h:1")
)


def test_no_two_consumers_have_a_transactional_id_in_common() -> None:
    assert transactional_id("shop", "eu-1") != transactional_id("shop-eu", "1")
    assert transactional_id("shop", "-/1") != transactional_id("shop-", "1")
    assert transactional_id("shop", "") != transactional_id("shop", "")
    assert transactional_id("shop", "1") == transactional_id("shop", "1"), "over restarts"


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_how_large_a_record_the_client_takes_is_known_before_the_first_one_is_sent(delivery: str) -> None:
    properties, refusals = {"message.max.bytes": "50000", "log_level": "0"}, Refusals()
    ours = KafkaClients(replace(CONFIG.settings, delivery=delivery, kafka=properties), CONFIG.row, refusals)
    ours.producer(lambda *_: None, lambda _event: None)
    assert refusals.largest.client_takes == 50_000


def test_rights_by_prefix_hold_for_every_transactional_id() -> None:
    assert all(transactional_id("shop", each).startswith("shop-") for each in ("", "eu-1", "/"))


def test_what_fails_fills_the_log_no_more_where_a_worker_starts_again(caplog: pytest.LogCaptureFixture) -> None:
    """Each start began to count anew."""
    around = Surroundings(executor=cast(Retrying, None), counters=Counters())
    config = replace(CONFIG, settings=replace(CONFIG.settings, kafka={"log_level": "0"}))
    for _start in range(2):
        with ExitStack() as opened:
            ours = KafkaClients(config.settings, config.row, around.refusals)
            opened.enter_context(ours.admin)
            links = links_of(config, ("a", "b"), ours, around, opened)
            opened.callback(links.consumer.close)
        for offset in range(LINES):
            fragment = Fragment(0, partition_offsets(topic="a"), offset, b"junk")
            links.failures.invalid(fragment, None, InvalidMessage("why"))
    assert [each.getMessage() for each in caplog.records].count("invalid message") == LINES


@pytest.mark.parametrize(
    ("read_order", "topics", "in_step"), [("fetched", "ab", False), ("time", "ab", True), ("time", "a", False)]
)
def test_several_topics_are_read_in_step_where_their_order_is_that_of_time(
    read_order: str, topics: str, in_step: bool
) -> None:
    around = Surroundings(executor=cast(Retrying, None), counters=Counters())
    settings = replace(CONFIG.settings, kafka={"log_level": "0"}, read_order=read_order)
    with ExitStack() as opened:
        ours = KafkaClients(settings, CONFIG.row, around.refusals)
        opened.enter_context(ours.admin)
        links = links_of(replace(CONFIG, settings=settings), tuple(topics), ours, around, opened)
        opened.callback(links.consumer.close)
        assert intake_of(links, around).in_step is in_step


def test_while_a_broker_makes_the_consumer_wait_for_its_quota_no_topic_counts_as_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard: list[Callable[[ThrottleEvent], None]] = []

    def make(properties: dict[str, Any]) -> Consumer:
        heard.append(properties["throttle_cb"])
        return Consumer(properties)

    monkeypatch.setattr("utils.kafka.clients.Consumer", make)
    settings = replace(CONFIG.settings, kafka={"log_level": "0"}, read_order="time")
    around = Surroundings(executor=cast(Retrying, None), counters=Counters())
    with ExitStack() as opened:
        ours = KafkaClients(settings, CONFIG.row, around.refusals)
        opened.enter_context(ours.admin)
        links = links_of(replace(CONFIG, settings=settings), ("a", "b"), ours, around, opened)
        opened.callback(links.consumer.close)
        heard[0](ThrottleEvent("broker", 1, 600.0))
        quiet = cast(InStep, links.consumer)._quiet
        for now in (0.0, 1.0):
            quiet.note(now, has_all=True)
        assert quiet.seconds == 0


def test_topics_of_the_workers_own_that_are_gone_are_made_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    there, made = {"a": 1, "b": 1, "out": 1, "shop-offsets": 1}, list[str]()
    monkeypatch.setattr(preflight, "look", lambda *_: Cluster((), dict(there)))
    monkeypatch.setattr(needed_topics, "_create", lambda *given, only_try: made.append(given[3].topic))
    provides_topics(CONFIG, Event())
    assert made == ["shop-dlq"]
    there["shop-dlq"] = 1
    provides_topics(CONFIG, Event())
    assert made == ["shop-dlq"]
    [line] = caplog.records
    assert vars(line)["topics"] == ["shop-dlq"]
    provides_topics(replace(CONFIG, settings=replace(CONFIG.settings, dlq_topic="")), Event())
    assert len(caplog.records) == 1


def test_of_a_topic_that_is_gone_and_cannot_be_made_the_log_has_the_cure(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(preflight, "look", lambda *_: Cluster((), {"a": 1, "b": 1, "shop-offsets": 1}))
    monkeypatch.setattr(needed_topics, "_create", lambda *_given, **_more: "cannot be created: x")
    provides_topics(CONFIG, Event())
    [line] = caplog.records
    output, letters = vars(line)["problems"]
    assert output.startswith("topic out of topics_output does not exist")
    assert "cannot be created: x" in letters

    def away(*_: object) -> None:
        raise UnavailableError("no broker")

    monkeypatch.setattr(preflight, "look", away)
    provides_topics(CONFIG, Event())
    assert vars(caplog.records[-1])["problems"] == ["no broker"]


def test_a_stop_does_not_wait_for_brokers_that_are_asked_for_topics_that_are_gone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It ended by the clock, with 1 and the word of a commit that may be missing, though no worker ran."""
    stop, answers = Event(), Event()

    def asked(*_: object) -> Cluster:
        stop.set()
        assert answers.wait(60)
        raise UnavailableError("no broker")

    monkeypatch.setattr(preflight, "look", asked)
    provides_topics(CONFIG, stop)
    assert not caplog.records, "it has not waited"
    answers.set()
    for each in threading.enumerate():  # what was left behind speaks in no other test
        if each.name == "start":
            each.join(60)
