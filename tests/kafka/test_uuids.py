"""Identities of topics: each is made once."""

import confluent_kafka
import pytest

from utils.kafka.uuids import share_uuids


def test_the_client_finds_the_identity_that_it_has_made(monkeypatch: pytest.MonkeyPatch) -> None:
    made = confluent_kafka.Uuid(1, 2)
    monkeypatch.setattr(confluent_kafka, "Uuid", type(made))
    for _ in range(2):
        share_uuids()
        assert confluent_kafka.Uuid(1, 2) is confluent_kafka.Uuid(1, 2)
    assert str(confluent_kafka.Uuid(1, 2)) == str(made) != str(confluent_kafka.Uuid(1, 3))
