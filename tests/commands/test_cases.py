"""Cases of process() that were saved, and messages that were made anonymous."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from utils.commands.cases import Anonymous, Case, case_of, group_of, opened, save, saved, tried
from utils.processing.outcome import attempt


def process(message: dict[str, Any], consumer_name: str) -> Any:
    if message["id"] == "bad":
        raise KeyError("total")
    return [{"id": f"{message['id']}-{each}", "by": consumer_name} for each in range(2)]


async def process_async(message: dict[str, Any], consumer_name: str) -> Any:
    return process(message, consumer_name)


def seen(message: dict[str, Any]) -> Case:
    return case_of("shop", message, attempt(process, group_of(message), "shop"))


@pytest.mark.parametrize("changed", [process, process_async])
def test_a_case_is_the_same_again_as_long_as_process_does_the_same(tmp_path: Path, changed: Any) -> None:
    save([seen({"id": 7, "content": {"a": "ä"}}), seen({"id": "bad", "content": {}})], tmp_path)
    cases = saved(tmp_path)
    assert sorted(case.error for case in cases.values()) == ["", "KeyError"]
    assert {name: tried(case, changed) for name, case in cases.items()} == cases


SETUP = """\
import asyncio
state = []

async def setup():
    state.append(asyncio.get_running_loop())

async def process(message, consumer_name):
    assert state == [asyncio.get_running_loop()], "what setup() has made may belong to its loop"
    return {**message, "by": consumer_name}

async def teardown():
    state.append("closed")
"""


@pytest.mark.parametrize(
    "source",
    [
        SETUP,
        SETUP.replace("async def setup", "def setup"),
        SETUP.replace("async ", "").replace("asyncio.get_running_loop()", "1"),
    ],
)
def test_the_tests_call_process_between_setup_and_teardown(source: str) -> None:
    """They called process() alone: each case that had just been saved was red."""
    worker = ModuleType("worker")
    exec(source, vars(worker))
    with opened(worker) as called:
        assert [called({"id": each}, "shop") for each in (1, 2)] == [{"id": each, "by": "shop"} for each in (1, 2)]
    assert worker.state[1:] == ["closed"]


def test_a_process_that_does_something_else_is_found_out(tmp_path: Path) -> None:
    save([seen({"id": 7, "content": {}}), seen({"id": "bad", "content": {}})], tmp_path)
    for case in saved(tmp_path).values():
        assert tried(case, lambda message, _name: message) != case


@pytest.mark.parametrize("content", ["", "[]", '{"consumer": "shop"}', "<<<<<<< HEAD"])
def test_a_file_that_holds_no_case_is_named(tmp_path: Path, content: str) -> None:
    """One file ended all tests, and nothing said which."""
    (tmp_path / "broken.json").write_text(content)
    with pytest.raises(ValueError, match=r"/broken\.json holds no case"):
        saved(tmp_path)


def test_a_full_disk_leaves_the_case_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [file] = save([seen({"id": 7, "content": {}})], tmp_path)
    before = file.read_text()

    def full(path: Path, text: str, **_: str) -> int:
        path.write_bytes(text[:5].encode())
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space"):
        save([seen({"id": 7, "content": {}}), seen({"id": 8, "content": {}})], tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == [file.name]
    assert file.read_text() == before


def test_messages_of_one_id_and_ids_that_no_file_can_be_named_after_have_files_of_their_own(tmp_path: Path) -> None:
    messages: list[dict[str, Any]] = [{"id": "../a/b", "content": {"n": each}} for each in range(2)]
    written = save([seen(each) for each in [*messages, {"id": "x" * 300, "content": {}}]], tmp_path)
    assert len(saved(tmp_path)) == 3
    assert {each.parent for each in written} == {tmp_path}
    save([seen(messages[0])], tmp_path)
    assert len(saved(tmp_path)) == 3, "the same message once more is the same file"


def test_fields_are_replaced_by_values_of_the_same_kind_that_tell_nothing() -> None:
    message: dict[str, Any] = {
        "id": 1001,
        "content": {"email": "Emmy.N@example.org", "age": 47, "rate": 1.5e-07, "ok": True, "items": [{"sn": "A1"}] * 2},
    }
    anonymous = Anonymous(["content.email", "content.age", "content.rate", "content.ok", "content.items.sn"], b"key")
    changed = anonymous(message)
    content = changed["content"]
    assert changed["id"] == 1001
    assert "example" not in json.dumps(changed)
    assert [character for character in content["email"] if not character.isalnum()] == [".", "@", "."]
    assert len(content["email"]) == len(message["content"]["email"])
    assert content["email"][0].isupper()
    assert (type(content["age"]), len(str(content["age"]))) == (int, 2)
    assert isinstance(content["rate"], float)
    assert content["ok"] is True
    assert content["items"][0] == content["items"][1] != message["content"]["items"][0]
    assert message["content"]["email"] == "Emmy.N@example.org", "the message itself stays"
    assert anonymous(message) == changed
    assert Anonymous(["content.email"], b"another")(message)["content"]["email"] != content["email"]


def test_a_field_that_no_message_has_is_known(tmp_path: Path) -> None:
    anonymous = Anonymous(["content.a", "content.b"], b"key")
    anonymous({"id": 1, "content": {"a": None}})
    assert anonymous.found == {"content.a"}


@pytest.mark.parametrize("value", [0, -7, 10**30, 1e22, -0.001, "", None, [], {}])
def test_any_value_can_be_replaced(value: object) -> None:
    for key in range(50):
        changed = Anonymous(["a"], bytes([key]))({"id": 1, "a": value})["a"]
        assert type(changed) is type(value)
