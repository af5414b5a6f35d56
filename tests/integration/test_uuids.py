"""What Kafka's client keeps of the looks at topics, which a worker takes for months."""

import gc

import confluent_kafka
import pytest
from confluent_kafka import TopicCollection

from tests.conftest import Topics
from tests.integration.workers import SECONDS
from tests.services.kafka import KafkaBroker, kept_admin
from utils.kafka.uuids import share_uuids


def test_looks_at_topics_leave_nothing_behind(
    real_kafka: KafkaBroker, topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    names, admin = topics(real_kafka, "a", "b", partitions=1), kept_admin(real_kafka.bootstrap)

    def look() -> type:
        described = admin.describe_topics(TopicCollection(names), request_timeout=SECONDS)
        return {type(future.result().topic_id) for future in described.values()}.pop()

    monkeypatch.setattr(confluent_kafka, "Uuid", look())
    share_uuids()
    kind = look()
    before = sum(type(each) is kind for each in gc.get_objects())
    for _ in range(50):
        look()
    assert sum(type(each) is kind for each in gc.get_objects()) == before
