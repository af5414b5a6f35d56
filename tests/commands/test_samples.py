"""Messages that were sent, joined as a worker joins them."""

from collections.abc import Collection
from pathlib import Path
from typing import Any, cast

from confluent_kafka import Consumer

from tests.fakes import FakeReader
from utils.commands.samples import Backwards, Read, joined, last, of_file, of_ids
from utils.joining.messages import join
from utils.joining.partitions import murmur2

TOPICS = ["a", "b"]


def value(id: str, topic: str, number: int = 0) -> bytes:
    return f'{{"id":"{id}","content":{{"{topic}":{number}}}}}'.encode()


def read(time: float, topic: str, offset: int, id: str) -> Read:
    return Read(time, topic, 0, offset, value(id, topic, offset), None, id)


def log(*ids: str, topic: str) -> list[tuple[float, bytes | None]]:
    return [(float(each), value(id, topic, each)) for each, id in enumerate(ids)]


def backwards(consumer: FakeReader, first: int = 1, wanted: Collection[str] = ()) -> Backwards:
    begins = dict.fromkeys(consumer.logs, 0)
    ends = {at: len(log) for at, log in consumer.logs.items()}
    return Backwards(cast(Consumer, consumer), begins, ends, first, wanted)


def test_records_are_joined_in_the_order_in_which_they_arrived() -> None:
    records = [read(1, "a", 0, "1"), read(2, "b", 0, "1"), read(3, "a", 1, "1"), read(4, "a", 2, "1")]
    records += [read(5, "b", 1, "1"), read(6, "b", 2, "2")]
    samples = joined(records, TOPICS)
    assert [join(group.fragments)["content"] for group in samples.groups] == [{"a": 0, "b": 0}, {"a": 2, "b": 1}]
    assert samples.incomplete == {"2": ("a",)}


def test_of_one_topic_each_message_is_whole() -> None:
    samples = joined([read(1, "a", 0, "1"), read(2, "a", 1, "1")], ["a"])
    assert len(samples.groups) == 2
    assert samples.incomplete == {}


def test_the_window_is_widened_until_so_many_are_whole() -> None:
    ids = [str(each) for each in range(100)]
    consumer = FakeReader({("a", 0): log(*ids, topic="a"), ("b", 0): log(*ids[:60], topic="b")}, some=1)
    samples = last(backwards(consumer), TOPICS, 5, 1e9)
    assert [group.id for group in samples.groups] == ["55", "56", "57", "58", "59"]
    assert samples.note == ""
    assert sum(consumer.handed_out.values()) < 160, "not all of it is read"
    assert max(consumer.handed_out.values()) == 1, "and nothing twice"


def test_the_newest_come_last_however_the_window_was_widened() -> None:
    consumer = FakeReader({("a", 0): log(*[str(each) for each in range(10)], topic="a")})
    assert [group.id for group in last(backwards(consumer), ["a"], 5, 1e9).groups] == ["5", "6", "7", "8", "9"]


def test_where_there_are_not_so_many_it_says_so() -> None:
    consumer = FakeReader({("a", 0): log("1", "2", topic="a"), ("b", 0): log("2", topic="b")})
    samples = last(backwards(consumer), TOPICS, 5, 1e9)
    assert [group.id for group in samples.groups] == ["2"]
    assert samples.note == "1 of the 5 messages asked for are whole: the topics hold no more"


def test_memory_has_an_end() -> None:
    ids = [str(each) for each in range(1000)]
    consumer = FakeReader({("a", 0): log(*ids, topic="a"), ("b", 0): log("-1", topic="b")})
    samples = last(backwards(consumer, 10), TOPICS, 5, 20_000)
    assert "MAX_PENDING_BYTES" in samples.note
    assert sum(consumer.handed_out.values()) < 200


def test_what_is_no_message_is_told_with_its_place() -> None:
    consumer = FakeReader({("a", 0): [(0.0, b"junk"), *log("1", topic="a")]})
    samples = last(backwards(consumer), ["a"], 5, 1e9)
    assert [where for where, _ in samples.invalid] == ["a:0:0"]
    assert [group.id for group in samples.groups] == ["1"]


def test_an_id_is_looked_for_where_its_key_says_first_and_then_everywhere() -> None:
    topics = {"a": 8, "b": 8}
    home = murmur2(b"x", 8)
    looked: list[set[tuple[str, int]]] = []

    def found(places: dict[str, int]) -> Any:
        logs = {(topic, each): log(*["0"] * 5, topic=topic) for topic in topics for each in range(8)}
        for topic, place in places.items():
            logs[topic, place] = log("x", *["0"] * 5, topic=topic)
        consumer = FakeReader(logs)

        def make(partitions: Collection[tuple[str, int]]) -> Backwards:
            looked.append(set(partitions))
            ends = {at: len(logs[at]) for at in partitions}
            return Backwards(cast(Consumer, consumer), dict.fromkeys(partitions, 0), ends, 1, ["x"])

        return of_ids(make, topics, ["x", "x"])  # as a list of complaints may name it twice

    assert [group.id for group in found({"a": home, "b": home}).groups] == ["x"]
    assert len(looked) == 1
    likely = looked[0]
    assert ("a", home) in likely
    assert len(likely) <= 4
    place = next(each for each in range(8) if ("b", each) not in likely)
    assert [group.id for group in found({"a": home, "b": place}).groups] == ["x"]
    half = found({"a": home})
    assert half.groups == []
    assert half.incomplete == {"x": ("b",)}
    assert found({}).note == "no message of x is in the input topics"


def test_a_file_has_a_message_on_each_line(tmp_path: Path) -> None:
    path = tmp_path / "messages.jsonl"
    mark = b"\xef\xbb\xbf"  # of a file of Windows
    path.write_bytes(mark + b'{"id":1,"content":{"a":1}}\n\n{"id":"x"}\nno json\n{"content":{}}\n')
    samples = of_file(path)
    assert [join(group.fragments) for group in samples.groups] == [
        {"id": 1, "content": {"a": 1}},
        {"id": "x", "content": {}},
    ]
    assert [where for where, _ in samples.invalid] == [f"{path}:4", f"{path}:5"]
