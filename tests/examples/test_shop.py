"""The shop of the tutorial, where no broker answers."""

import sys

import pytest

from examples import shop


@pytest.mark.parametrize("command", [["topics"], ["order", "1", "tea", "9.8"], ["results", "1"]])
def test_where_no_broker_answers_it_says_so_in_one_line(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Kafka's client filled the terminal, and `results` did so without an end."""
    monkeypatch.setattr(shop, "PATIENCE", 1.0)
    monkeypatch.setattr(sys, "argv", ["shop", "--kafka", "127.0.0.1:1", *command])
    with pytest.raises(SystemExit) as ended:
        shop.main()
    assert (
        ended.value.code
        == "no Kafka answers at 127.0.0.1:1: start it (step 2 of docs/tutorial.md), or say where it is: --kafka"
    )
    assert capfd.readouterr() == ("", "")
