"""The examples that call nobody: the sentiment of a text, and a model that is loaded once."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from examples import model, sentiment


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Great tea, fast, would recommend!", "positive"),
        ("Arrived late and broken. I want a refund.", "negative"),
        ("not bad", "positive"),
        ("The parcel is here.", "neutral"),
        ("", "neutral"),
    ],
)
def test_a_text_is_judged_by_its_words(text: str, label: str) -> None:
    message = sentiment.process({"id": 1, "content": {"text": text}}, "reviews")
    assert message["content"]["sentiment"]["label"] == label


def test_a_message_without_a_text_goes_on_as_it_is() -> None:
    assert sentiment.process({"id": 1, "content": {"item": "tea"}}, "reviews")["content"] == {"item": "tea"}


def test_a_payment_that_does_not_fit_its_order_is_a_risk() -> None:
    model.setup()
    fits = model.process({"id": 1, "content": {"total": 9.8, "paid": 9.8, "method": "card"}}, "risks")
    does_not = model.process({"id": 2, "content": {"total": 9.8, "paid": 0.98, "method": "card"}}, "risks")
    assert fits["content"]["risk"] < 0.1 < 0.5 < does_not["content"]["risk"]


def test_where_it_is_copied_to_as_it_says_it_finds_its_model(tmp_path: Path) -> None:
    """It looked for a worker.json beside worker.py, which goes into no image."""
    shutil.copy(model.__file__, tmp_path / "worker.py")
    shutil.copytree(Path(model.__file__).with_name("risk"), tmp_path / "risk")
    code = "import worker; worker.setup(); print(worker.process({'content': {}}, 'risks'))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert "'risk': 0." in done.stdout, done.stderr


def test_a_model_that_is_missing_or_another_is_found_out_in_setup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "FILE", tmp_path / "model.json")
    with pytest.raises(FileNotFoundError):
        model.setup()
    (tmp_path / "model.json").write_text(json.dumps({"weights": {"bias": 0, "difference": 0, "cash": 0}}))
    model.setup()
    assert model.process({"id": 1, "content": {}}, "risks")["content"]["risk"] == 0.5
