"""The sample messages: most ids meet, and of every ten one each shows what else may happen."""

import json
from collections import Counter, defaultdict
from itertools import takewhile
from random import Random

from examples.demo_feed import IDS_PER_SECOND, LATEST_MATE, ORDERS, PAYMENTS, Sample, samples

SECONDS = 60.0


def fed(seed: int = 1) -> list[Sample]:
    return list(takewhile(lambda sample: sample.at < SECONDS, samples(Random(seed))))


def by_id() -> dict[int, list[Sample]]:
    """The messages of the ids that had the time to be complete."""
    messages = defaultdict(list)
    for sample in fed():
        messages[sample.id].append(sample)
    return {id: sent for id, sent in messages.items() if id and sent[0].at < SECONDS - LATEST_MATE}


def test_messages_come_in_the_order_of_time() -> None:
    times = [sample.at for sample in fed()]
    assert times == sorted(times)


def test_about_seven_ids_begin_in_a_second() -> None:
    assert 0.8 * IDS_PER_SECOND < len(by_id()) / SECONDS < 1.2 * IDS_PER_SECOND


def test_most_ids_have_a_message_on_each_topic_in_either_order() -> None:
    firsts = Counter(sent[0].topic for id, sent in by_id().items() if id % 10 not in (2, 4))
    assert set(firsts) == {ORDERS, PAYMENTS}
    assert min(firsts.values()) > 0.2 * firsts.total()
    for id, sent in by_id().items():
        if id % 10 not in (2, 4):
            assert sorted(sample.topic for sample in sent) == [ORDERS, PAYMENTS]


def test_one_id_in_ten_never_meets_its_mate_and_one_brings_a_message_twice() -> None:
    for id, sent in by_id().items():
        if id % 10 == 2:
            assert len(sent) == 1
        if id % 10 == 4:
            first, again, mate = sent
            assert first.topic == again.topic != mate.topic
            assert first.content != again.content


def test_a_message_carries_its_id_and_a_content_and_some_carry_no_json_at_all() -> None:
    broken = 0
    for sample in fed():
        if sample.id:
            message = json.loads(sample.value)
            assert message["id"] == sample.id
            assert message["content"] == sample.content
        else:
            broken += 1
            assert not is_json(sample.value)
    assert broken > SECONDS * IDS_PER_SECOND / 20


def is_json(value: bytes) -> bool:
    try:
        json.loads(value)
    except ValueError:
        return False
    return True
