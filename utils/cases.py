"""Where tests/test_worker.py finds the cases of tests/cases/: the files of the frame may move, this name stays.

Imported before worker.py, it lets defaults.py go first, as a worker does.
"""

from utils.commands.cases import opened, saved, tried
from utils.processing.user_code import before_worker

__all__ = ["opened", "saved", "tried"]

before_worker()
