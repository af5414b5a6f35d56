"""When a run notes what it has done."""

import threading

import pytest

from utils.commands import notes
from utils.commands.notes import noting


def test_a_run_notes_what_is_done_before_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """It did at its end only: who was killed had noted nothing."""
    monkeypatch.setattr(notes, "NOTE_EVERY", 0.001)
    noted = threading.Semaphore(0)

    def note() -> bool:
        noted.release()
        return True

    with noting(note):
        for _ in range(3):
            noted.acquire()


def test_a_run_notes_at_its_end_what_is_done_then_also_where_it_fails() -> None:
    done, noted, first = [0], list[int](), threading.Event()

    def note() -> bool:
        noted.append(done[0])
        first.set()
        return True

    def run() -> None:
        with noting(note):
            first.wait()
            done[0] = 1
            raise RuntimeError

    with pytest.raises(RuntimeError):
        run()
    assert noted == [0, 1]


def test_what_cannot_be_noted_is_tried_again_later_and_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notes, "NOTE_EVERY", 0.0)
    tries, first = list[bool](), threading.Event()

    def note() -> bool:
        tries.append(False)
        first.set()
        return False

    with noting(note):
        first.wait()
        threading.Event().wait(0.05)  # enough for many
    assert tries == [False, False]
