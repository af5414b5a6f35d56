"""Where tests/test_worker.py finds the cases of tests/cases/: the files of the frame may move, this name stays."""

from utils.commands.cases import opened, saved, tried

__all__ = ["opened", "saved", "tried"]
