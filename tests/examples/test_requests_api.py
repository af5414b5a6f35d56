"""The example of an API with a key, by requests."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from examples import requests_api
from tests.examples.server import Server, serving
from utils.retry import Reject, Retry


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with serving() as server:
        monkeypatch.setenv("API_URL", server.url)
        monkeypatch.setenv("API_KEY", "topsecret")
        requests_api.setup()
        yield server
        requests_api._session().close()
        del requests_api._sessions.session


def test_a_message_is_sent_with_the_key_and_what_makes_it_harmless_to_send_it_twice(api: Server) -> None:
    api.answer = {"accepted": True}
    message = requests_api.process({"id": 7, "content": {"item": "tea"}}, "orders")
    assert message["content"] == {"item": "tea", "answer": {"accepted": True}}
    [asked] = api.asked
    assert json.loads(asked.body) == {"item": "tea"}
    assert asked.headers["Authorization"] == "Bearer topsecret"
    assert asked.headers["Idempotency-Key"] == "orders-7"


def test_an_id_may_be_any_text(api: Server) -> None:
    for id in ("中", "a\r\nX: 1"):
        requests_api.process({"id": id, "content": {}}, "orders")
    assert [asked.headers["Idempotency-Key"] for asked in api.asked] == ["orders-%E4%B8%AD", "orders-a%0D%0AX%3A%201"]


@pytest.mark.parametrize(
    ("status", "failure"),
    [(409, Retry), (429, Retry), (503, Retry), (422, Reject), (401, requests.HTTPError), (500, requests.HTTPError)],
)
def test_other_answers_are_failures_each_of_its_kind(api: Server, status: int, failure: type[Exception]) -> None:
    api.status, api.headers = status, {"Retry-After": "7"}
    with pytest.raises(failure) as raised:
        requests_api.process({"id": 7, "content": {}}, "orders")
    assert "topsecret" not in str(raised.value)
    assert getattr(raised.value, "after", 7.0) == 7.0


def test_the_key_may_be_in_a_file(api: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text("another\n")
    monkeypatch.setenv("API_KEY_FILE", str(tmp_path / "key"))
    requests_api.setup()
    requests_api.process({"id": 7, "content": {}}, "orders")
    assert api.asked[0].headers["Authorization"] == "Bearer another"


def test_an_api_that_does_not_answer_is_waited_for_no_longer_than_said(
    api: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests_api, "TIMEOUT", (3, 0.01))
    api.together = threading.Barrier(2)  # nobody else comes
    with pytest.raises(requests.Timeout):
        requests_api.process({"id": 7, "content": {}}, "orders")
    api.together.abort()
