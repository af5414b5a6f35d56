"""Partitions of keys as Kafka's clients choose them, and when a sample of records tells that topics do not fit."""

import hashlib
import random
from collections.abc import Callable

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, Producer, TopicPartition

from tests.conftest import Topics
from tests.services.kafka import KafkaBroker
from utils.joining.partitions import (
    ANOTHER_KEY,
    NEARLY_ALL,
    NEITHER,
    NO_KEY,
    WINDOW,
    Keys,
    _murmur2,
    crc32,
    form_of,
    murmur2,
)
from utils.kafka import clients

Partitioner = Callable[[bytes, int], int]
KEYS = [b"\0", b"1", b"12", b"123", b"1234", "größer".encode(), b"\xff" * 100, *(b"order-%d" % n for n in range(300))]


@pytest.mark.parametrize(
    ("key", "hash"),
    [  # of Kafka's own test, UtilsTest.testMurmur2
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_is_that_of_java(key: bytes, hash: int) -> None:
    assert _murmur2(key) == hash % 2**32
    assert murmur2(key, 2**31) == hash & 0x7FFFFFFF


def test_crc32_is_the_one_with_the_well_known_check_value() -> None:
    assert crc32(b"123456789", 2**32) == 0xCBF43926


def partitions_chosen(producer: Producer, topic: str) -> dict[bytes, int]:
    chosen: dict[bytes, int] = {}
    for key in KEYS:
        producer.produce(topic, b"{}", key, on_delivery=lambda _error, message: _note(message, chosen))
    assert producer.flush(30) == 0
    return chosen


def _note(message: Message, chosen: dict[bytes, int]) -> None:
    chosen[message.key() or b""] = message.partition() or 0


@pytest.mark.parametrize(
    ("partitioner", "of"),
    [("murmur2", murmur2), ("murmur2_random", murmur2), ("consistent", crc32), ("consistent_random", crc32)],
)
@pytest.mark.parametrize("partitions", [2, 7])
def test_the_client_chooses_the_same_partitions(
    embedded_kafka: KafkaBroker, topics: Topics, partitioner: str, of: Partitioner, partitions: int
) -> None:
    [topic] = topics(embedded_kafka, "any", partitions=partitions)
    producer = Producer({"bootstrap.servers": embedded_kafka.bootstrap, "partitioner": partitioner})
    assert partitions_chosen(producer, topic) == {key: of(key, partitions) for key in KEYS}


def test_the_worker_sends_its_results_where_java_would(embedded_kafka: KafkaBroker, topics: Topics) -> None:
    [topic] = topics(embedded_kafka, "out", partitions=7)
    producer = clients.producer({"bootstrap.servers": embedded_kafka.bootstrap}, lambda _error, _message: None)
    expected = {key: murmur2(key, 7) for key in KEYS}
    for key in KEYS:
        producer.produce(topic, key, key)
    assert producer.flush(30) == 0
    found: dict[bytes, int] = {}
    consumer = reader(embedded_kafka, topic, 7)
    while len(found) < len(expected):
        for message in consumer.consume(1000, 10):
            found[message.key() or b""] = message.partition() or 0
    consumer.close()
    assert found == expected


def reader(broker: KafkaBroker, topic: str, partitions: int) -> Consumer:
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "reader"})
    consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(partitions)])
    return consumer


@pytest.mark.parametrize(
    ("key", "id", "form"),
    [
        (b"1001", "1001", "the id"),
        (b'"ab"', "ab", "the id as JSON"),
        ((1001).to_bytes(8), "1001", "the id in 8 bytes"),
        ((-7).to_bytes(4, signed=True), "-7", "the id in 4 bytes"),
        (b"other", "1001", ANOTHER_KEY),
        (b"", "1001", ANOTHER_KEY),
        (None, "1001", NO_KEY),
    ],
)
def test_a_key_may_say_the_id_in_several_forms(key: bytes | None, id: str, form: str) -> None:
    assert form_of(key, id) == form


# ---------------------------------------------------------------- judging topics


def look_at(
    keys: Keys, topic: str, of: Partitioner, ids: range = range(WINDOW), *, partitions: int = 2, prefix: str = ""
) -> dict[str, str]:
    for number in ids:
        id = f"{number}"
        key = f"{prefix}{id}".encode()
        keys.sample(topic, of(key, partitions), partitions, key, id)
    return keys.judge()


def by_chance(_key: bytes, partitions: int) -> int:
    return CHANCE.randrange(partitions)


CHANCE = random.Random(1)


@pytest.mark.parametrize("partitions", [2, 3, 4, 50])
@pytest.mark.parametrize("of", [murmur2, crc32])
def test_topics_that_are_hashed_alike_are_alike(of: Partitioner, partitions: int) -> None:
    keys = Keys()
    for topic in "abc":
        assert not keys.are_alike("abc")
        look_at(keys, topic, of, partitions=partitions)
    assert keys.are_alike("abc")
    assert keys.judge() == {}


@pytest.mark.parametrize("partitions", [2, 3, 4, 50])
@pytest.mark.parametrize("order", ["ab", "ba"])
def test_of_java_beside_librdkafka_the_latter_is_named(order: str, partitions: int) -> None:
    keys = Keys()
    hashes = {"a": murmur2, "b": crc32}
    for topic in order:
        look_at(keys, topic, hashes[topic], partitions=partitions)
    assert keys.judge() == {
        "b": "the key is the id, hashed with CRC32, but in a: the key is the id, hashed with murmur2"
    }
    assert not keys.are_alike("ab")


def test_a_topic_whose_partitions_fit_no_hash_is_named() -> None:
    keys = Keys()
    look_at(keys, "a", crc32)
    look_at(keys, "b", by_chance)
    assert list(keys.judge()) == ["b"]
    assert NEITHER in keys.judge()["b"]


def test_topics_with_a_partitioner_of_their_own_cannot_be_told_apart() -> None:
    keys = Keys()
    for topic in "ab":
        look_at(keys, topic, of_their_own)
    assert keys.judge() == {}
    assert not keys.are_alike("ab"), "nobody knows"


def of_their_own(key: bytes, partitions: int) -> int:
    return int.from_bytes(hashlib.sha256(key).digest()) % partitions


def test_nothing_is_said_before_there_is_enough_evidence() -> None:
    keys = Keys()
    look_at(keys, "a", murmur2)
    look_at(keys, "b", crc32, range(WINDOW - 1))
    assert keys.judge() == {}
    assert not keys.is_judged("b")
    look_at(keys, "b", crc32, range(WINDOW - 1, WINDOW))
    assert keys.judge()
    assert keys.is_judged("b")


def test_one_id_again_and_again_is_no_evidence() -> None:
    keys = Keys()
    look_at(keys, "a", murmur2)
    for _ in range(10 * WINDOW):
        look_at(keys, "b", crc32, range(3))
    assert keys.judge() == {}


def test_with_one_partition_there_is_nothing_to_be_told() -> None:
    keys = Keys()
    look_at(keys, "a", murmur2, partitions=1)
    look_at(keys, "b", crc32, partitions=1, prefix="no id ")
    assert keys.judge() == {}
    assert not keys.is_judged("b")


@pytest.mark.parametrize("odd", [1, WINDOW - NEARLY_ALL])
def test_a_few_odd_records_are_no_mismatch(odd: int) -> None:
    keys = Keys()
    look_at(keys, "a", murmur2)
    look_at(keys, "b", murmur2, range(WINDOW - odd))
    look_at(keys, "b", lambda key, partitions: 1 - murmur2(key, partitions), range(WINDOW, WINDOW + odd))
    assert keys.judge() == {}
    assert keys.are_alike("ab")
    assert not keys.are_all_alike("ab"), "a group that one of them completes is not given up"


def test_one_odd_record_among_the_later_ones_is_remembered() -> None:
    keys = Keys()
    look_at(keys, "a", murmur2)
    look_at(keys, "b", murmur2)
    assert keys.are_all_alike("ab")
    keys.sample("b", 0, 2, None, "without a key")
    look_at(keys, "b", murmur2, range(WINDOW, 3 * WINDOW))
    assert keys.are_alike("ab")
    assert not keys.are_all_alike("ab")


def test_more_of_them_are_none_once_the_topic_was_found_to_fit() -> None:
    keys = Keys()
    for topic in "ab":
        look_at(keys, topic, murmur2)
    look_at(keys, "b", lambda key, partitions: 1 - murmur2(key, partitions), range(WINDOW, WINDOW + 10))
    assert keys.judge() == {}
    look_at(keys, "b", lambda key, partitions: 1 - murmur2(key, partitions), range(WINDOW + 10, WINDOW + 11))
    assert list(keys.judge()) == ["b"]


def test_a_producer_that_is_cured_is_no_longer_named() -> None:
    keys = Keys()
    look_at(keys, "a", murmur2)
    look_at(keys, "b", crc32)
    assert keys.judge()
    look_at(keys, "b", murmur2, range(WINDOW, 2 * WINDOW))
    assert keys.judge() == {}
    assert keys.are_alike("ab")


def test_records_without_a_key_are_named_in_every_topic_that_has_them() -> None:
    keys = Keys()
    for number in range(WINDOW):
        for topic in "ab":
            keys.sample(topic, number % 2, 2, None, str(number))
    assert keys.judge() == dict.fromkeys("ab", "the key of its records is none")


def test_keys_that_are_not_the_id_are_named() -> None:
    keys = Keys()
    look_at(keys, "a", murmur2)
    look_at(keys, "b", murmur2, prefix="customer-")
    assert keys.judge() == {"b": "the key of its records is not the id"}
    look_at(keys, "b", murmur2, range(WINDOW, WINDOW + WINDOW // 2))
    assert keys.judge() == {"b": "the key of its records is not always the id"}


def test_keys_in_another_form_than_those_of_the_siblings_are_named() -> None:
    keys = Keys()
    look_at(keys, "a", murmur2)
    for number in range(WINDOW):
        key = number.to_bytes(8)
        keys.sample("b", murmur2(key, 2), 2, key, str(number))
        keys.sample("c", murmur2(key, 2), 2, key, str(number))
    assert list(keys.judge()) == ["b", "c"]
    assert "in 8 bytes" in keys.judge()["b"]
    assert keys.are_alike("bc")


def test_a_changed_number_of_partitions_begins_the_evidence_anew() -> None:
    keys = Keys()
    for topic in "ab":
        look_at(keys, topic, murmur2)
    look_at(keys, "b", crc32, range(WINDOW - 1), partitions=3)
    assert keys.judge() == {}
    assert not keys.is_judged("b")


def test_topics_with_other_numbers_of_partitions_are_not_compared() -> None:
    keys = Keys()
    look_at(keys, "a", murmur2, partitions=2)
    look_at(keys, "b", crc32, partitions=3)
    assert keys.judge() == {}
    assert not keys.are_alike("ab")


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("share", [0.0, 0.3, 0.5])
def test_where_two_kinds_of_producers_feed_one_topic_it_is_named_sooner_or_later(seed: int, share: float) -> None:
    chance, keys = random.Random(seed), Keys()
    look_at(keys, "a", murmur2)
    named = any(
        "b" in look_at(keys, "b", crc32 if chance.random() < share else murmur2, range(number, number + 1))
        for number in range(20 * WINDOW)
    )
    assert named == (share > 0)
