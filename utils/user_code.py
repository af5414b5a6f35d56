"""worker.py, which its user writes: what a worker calls of it. What is wrong with it is told in a line of text.

`python -m utils.user_code` tries it where an image is made.
"""

import importlib
import inspect
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from config import ConfigError
from utils.errors import named
from utils.executor import Hooks, nothing

_LACKS = (ImportError, SyntaxError)  # of the program, wherever it runs; anything else may be of the environment


class UserCode(NamedTuple):
    """What worker.py defines."""

    process: Callable[..., Any]
    hooks: Hooks

    @property
    def is_async(self) -> bool:
        return inspect.iscoroutinefunction(self.process)


def load() -> UserCode:
    """Import worker.py, the first time; ConfigError names all that is wrong with it."""
    try:
        worker = importlib.import_module("worker")
    except (Exception, SystemExit) as error:  # sys.exit() in it would look like a stop in order
        raise ConfigError([_not_imported(error)]) from error
    process: Any = getattr(worker, "process", None)
    hooks = Hooks(*(getattr(worker, each, nothing) for each in Hooks._fields))
    problems = _problems_of_process(process)
    for name, hook in hooks._asdict().items():
        if not callable(hook) or not _takes(hook):
            problems.append(f"worker.py: {name} must be a function that takes no arguments")
        elif inspect.iscoroutinefunction(hook) and not inspect.iscoroutinefunction(process):
            problems.append(f"worker.py: {name}() is `async def`, so process() must be so too")
    if problems:
        raise ConfigError(problems)
    return UserCode(process, hooks)


def _not_imported(error: BaseException) -> str:
    told = named(error)
    if isinstance(error, ModuleNotFoundError) and error.name == "worker":
        return "worker.py is not there: it must define process(message, consumer_name)"
    if isinstance(error, SyntaxError):
        told = f"{type(error).__name__} in {error.filename}:{error.lineno}: {error.msg}"
    elif isinstance(error, (ImportError, NameError, AttributeError)):  # they tell names, and no values
        told = f"{told}: {error}"
    cure = ""
    if isinstance(error, ModuleNotFoundError):
        cure = "; add what it needs to requirements.txt (then make lock), or a directory of your own to the image"
    return f"worker.py cannot be imported: {told}{cure}"


def _problems_of_process(process: object) -> list[str]:
    if not callable(process):
        return ["worker.py defines no process(): it must be a function, process(message, consumer_name)"]
    if not _takes(process, {}, ""):
        return [f"worker.py: process{inspect.signature(process)} must take two arguments: message, consumer_name"]
    if inspect.isgeneratorfunction(process) or inspect.isasyncgenfunction(process):
        return ["worker.py: process() must return its results, as a list where they are several, and not yield them"]
    return []


def _takes(function: Callable[..., Any], *arguments: object) -> bool:
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError:
        return False
    except ValueError:  # built in, and nobody knows
        pass
    return True


def main() -> int:
    """0 unless it lacks something wherever it runs. What it wants of its environment, an image has not got yet."""
    try:
        load()
    except ConfigError as error:
        fails = error.__cause__ is None or isinstance(error.__cause__, _LACKS)
        print(*error.problems, sep="\n", file=sys.stderr)
        return int(fails)
    return 0


if __name__ == "__main__":
    sys.exit(main())
