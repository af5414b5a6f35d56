"""What all commands print by."""

import json

import pytest

from utils.commands.command import say, settings_of


@pytest.mark.parametrize("text", ["a\x1b]0;title\x07b", "\r", "\x9b2J", "\x7f", "\u202eright", "\0"])
def test_what_drives_a_terminal_is_escaped(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    say(text)
    printed = capsys.readouterr().out
    assert printed.removesuffix("\n").isprintable()
    assert json.loads(f'"{printed.strip()}"') == text, "it can be read again"


def test_all_other_text_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    say("é\tä\n✓ \\ “x”")
    assert capsys.readouterr().out == "é\tä\n✓ \\ “x”\n"


def test_the_terminal_is_cleared_where_that_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    say("x", clear=True)
    assert capsys.readouterr().out == "\x1b[H\x1b[2Jx\n"


@pytest.mark.parametrize(
    ("given", "own", "name"),
    [
        ({}, {}, "fleet"),
        ({"CONSUMER_NAME": ""}, {}, "fleet"),
        ({"CONSUMER_NAME": "a"}, {"CONSUMER_NAME": "b"}, "a"),
        ({"CONSUMER_NAME": ""}, {"CONSUMER_NAME": "b"}, "b"),
    ],
)
def test_a_command_that_needs_no_name_has_one_where_neither_environment_nor_defaults_give_it(
    given: dict[str, str], own: dict[str, str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("utils.processing.user_code.defaults", lambda: own)
    environ = {"DATABASE_URL": "sqlite:///rows.db", **given}
    assert settings_of(environ, name="fleet").consumer_name == name


def test_what_defaults_py_prints_is_not_printed_among_the_lines_of_a_command(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """`fleet --json` was no JSON."""

    def defaults() -> dict[str, str]:
        print("loaded .env")
        return {}

    monkeypatch.setattr("utils.processing.user_code.defaults", defaults)
    settings_of({"DATABASE_URL": "sqlite:///rows.db"}, name="fleet")
    say("{}")
    assert capfd.readouterr() == ("{}\n", "loaded .env\n")
