"""worker.py and defaults.py, which their user writes: what a worker calls of the one, and what the other names. What is
wrong with them is told in a line of text.

`python -m utils.processing.user_code` tries both where an image is made (`--made-from` where), and in `make check`.
"""

import argparse
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import wait
from contextlib import suppress
from contextvars import Context
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from config import ConfigError, NeedsNewProcessError, UnavailableError
from utils.errors import named
from utils.logger import logger, stay_heard
from utils.processing.outcome import is_async
from utils.processing.runner import Hooks, nothing
from utils.threads import in_thread

_NOT_EVALUATED: dict[str, Any] = {}
if sys.version_info >= (3, 14):  # which evaluates annotations only when it is asked for them
    from annotationlib import Format

    _NOT_EVALUATED["annotation_format"] = Format.STRING

_LACKS = (ImportError, SyntaxError, NameError, re.error)
_NO_FILE = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError)
_WRONG = (*_LACKS, *_NO_FILE, AttributeError, TypeError, ValueError, LookupError, ArithmeticError, AssertionError)
"""What no time heals. What a library raises of its own, or the network, may be a service that is away for a moment."""
_ASK_OTHERS = frozenset(
    {"asyncio", "concurrent", "ftplib", "http", "imaplib", "multiprocessing", "poplib", "queue"}
    | {"sqlite3", "subprocess", "xmlrpc"}
)
"""Of Python's own modules. What the others raise of their own (re.error, struct.error) is wrong tomorrow, too."""
_NO_LIBRARY = re.compile(
    "cannot load library|shared (object|library)|library not found|no library called|undefined symbol|ELF |GLIBC"
)
IMPORT_IS_SLOW = 30.0  # seconds after which the log says that an import has not returned; then after twice as long
_OF_IMPORT = Context()
_NEEDS_MAIN = ("main thread", "no current event loop", "no running event loop")


class UserCode(NamedTuple):
    """What worker.py defines."""

    process: Callable[..., Any]
    hooks: Hooks
    context: Context = Context()
    """In which it was imported: how decimal rounds, say, is not of a module but of a context."""

    @property
    def is_async(self) -> bool:
        return is_async(self.process)

    @property
    def hides_async(self) -> bool:
        """Whether it is something else around an `async def`, such as a decorator that does not await it."""
        return not self.is_async and is_async(inspect.unwrap(self.process))


def use(file: Path) -> None:
    """Take this file for worker.py, before `load`. Raises ConfigError."""
    spec = importlib.util.spec_from_file_location("worker", file)
    if not file.is_file() or not spec or not spec.loader:
        raise ConfigError([f"{file} is no file of Python that could take the place of worker.py"])
    module = sys.modules["worker"] = importlib.util.module_from_spec(spec)
    try:
        _OF_IMPORT.run(spec.loader.exec_module, module)
    except (Exception, SystemExit) as error:
        del sys.modules["worker"]
        raise ConfigError([_not_imported(str(file), error)]) from error
    finally:
        stay_heard()


def load() -> UserCode:
    """Import worker.py, the first time; ConfigError names all that is wrong with it.

    NeedsNewProcessError: what it wants of others while it is imported may come later. What stands above that has been
    done: a thread runs, a metric or a table of SQLAlchemy is there, and would be there twice.
    """
    worker = _imported("worker")
    process: Any = getattr(worker, "process", None)
    hooks = Hooks(*(getattr(worker, each, nothing) for each in Hooks._fields))
    problems = _problems_of_process(process)
    for name, hook in hooks._asdict().items():
        if not callable(hook) or not _takes(hook):
            problems.append(f"worker.py: {name} must be a function that takes no arguments")
        elif _yields(hook) or _yields(inspect.unwrap(hook)):
            problems.append(f"worker.py: {name}() must do its work and return, and not yield")
        elif is_async(hook) and callable(process) and not is_async(process):
            problems.append(f"worker.py: {name}() is `async def`, so process() must be so too")
    if problems:
        raise ConfigError(problems)
    return UserCode(process, hooks, _OF_IMPORT)


def defaults() -> Mapping[str, object]:
    """Import defaults.py, the first time: what it names. Without that file, nothing. Raises as `load` does.

    What is None is not named: `os.getenv()` gives it where a variable is not set.
    """
    names = vars(_imported("defaults")) if importlib.util.find_spec("defaults") else {}
    return {name: value for name, value in names.items() if value is not None}


def before_worker() -> None:
    """Import defaults.py where nobody needs its settings: a .env is loaded there, and worker.py may need it.

    What is wrong with it is told by those that do.
    """
    with suppress(ConfigError, UnavailableError):
        defaults()


def _imported(name: str) -> ModuleType:
    try:
        return _apart(partial(_OF_IMPORT.run, importlib.import_module, name), f"{name}.py")
    except (Exception, SystemExit) as error:  # sys.exit() in it would look like a stop in order
        told = _not_imported(f"{name}.py", error)
        if _may_heal(error):
            raise NeedsNewProcessError(f"{told}; if this stays, look at what it asks for there") from error
        raise ConfigError([told]) from error
    finally:
        stay_heard()


def _apart(call: Callable[[], ModuleType], file: str) -> ModuleType:
    """In a thread, always: `run` does it so, to stop in time. What needs the main thread shall fail in `check`, too.

    One that hangs does so for ever: the log tells.
    """
    future = in_thread(call, "import")
    pause = lasted = IMPORT_IS_SLOW
    while not wait([future], timeout=pause).done:
        stay_heard()
        logger.warning("%s has not been imported yet", file, extra={"seconds": lasted})
        pause, lasted = lasted, 2 * lasted
    return future.result()


def _may_heal(error: BaseException) -> bool:
    if not isinstance(error, Exception) or isinstance(error, _WRONG):
        return False
    if isinstance(error, OSError):
        return not _lacks_library(error)
    module = type(error).__module__.partition(".")[0].removeprefix("_")
    return module in _ASK_OTHERS or module not in sys.stdlib_module_names


def _lacks_library(error: BaseException | None) -> bool:
    """Whether a shared library of the system is not there, or no good here: so ctypes and cffi raise it."""
    return type(error) is OSError and error.errno is None and bool(_NO_LIBRARY.search(str(error)))


def _not_imported(file: str, error: BaseException) -> str:
    told = named(error)
    if isinstance(error, ModuleNotFoundError) and error.name == "worker":
        return "worker.py is not there: it must define process(message, consumer_name)"
    if isinstance(error, SyntaxError):
        place = f" in {error.filename}:{error.lineno}" if error.filename else ""
        told = f"{type(error).__name__}{place}: {error.msg}"
    elif isinstance(error, (ImportError, NameError, AttributeError)):  # they tell names, and no values
        told = f"{told}: {error}"
    elif _lacks_library(error):
        told = f"{told}: {' '.join(str(error).split())}"
    text = str(error) if type(error).__module__ == "builtins" else ""  # that of another one may raise, or tell values
    if any(each in text for each in _NEEDS_MAIN):
        return (
            f"{file} cannot be imported: {told}: {text}; it is imported in a thread: leave signals to the frame, and"
            " take an event loop where process() or setup() runs"
        )
    cure = "; save it as UTF-8" if "null bytes" in text else ""  # no SyntaxError in Python 3.11.2
    if _lacks_library(error):
        cure = "; install the system's package of this library, also in the last part of the Dockerfile"
    if isinstance(error, ModuleNotFoundError):
        package = "add what it needs to requirements.txt (then make lock, make setup)"
        cure = f"; {package}, or a directory of your own to the image"
    if _asks_config(error):
        cure = "; config.py is the frame's: move a value of yours into defaults.py, and import that"
    if _asks_utils(error):
        cure = "; utils/ is the frame's: move yours into a directory of your own; of its logger.py take logger"
    return f"{file} cannot be imported: {told}{cure}"


def _asks_config(error: BaseException) -> bool:
    """Whether it looks in config.py for a value of its own: workers that were written by hand have them there."""
    if isinstance(error, AttributeError):
        return error.obj is sys.modules["config"]
    return isinstance(error, ImportError) and error.name == "config"


def _asks_utils(error: BaseException) -> bool:
    """Whether it looks in utils/ for a helper of its own: workers that were written by hand have them there."""
    return isinstance(error, ImportError) and (error.name or "").startswith("utils.")


def _problems_of_process(process: object) -> list[str]:
    if not callable(process):
        return ["worker.py defines no process(): it must be a function, process(message, consumer_name)"]
    if not _takes(process, {}, ""):
        return [f"worker.py: process{_signature(process)} must take two arguments: message, consumer_name"]
    if _yields(process):
        return ["worker.py: process() must return its results, as a list where they are several, and not yield them"]
    return []


def _yields(function: object) -> bool:
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


def _takes(function: Callable[..., Any], *arguments: object) -> bool:
    try:
        _signature(function).bind(*arguments)
    except TypeError:
        return False
    except ValueError:  # built in, and nobody knows
        pass
    return True


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    """What a call of it takes, and not what a decorator calls, which may add arguments.

    Its annotations may name what is there for type checkers alone.
    """
    return inspect.signature(function, follow_wrapped=False, **_NOT_EVALUATED)


def _lacks(error: BaseException, made_from: Path | None) -> bool:
    """Whether an import misses what it would miss wherever it runs: other things may be of the environment."""
    for_good = isinstance(error, _LACKS) or _is_misspelled(error) or _lacks_library(error)
    return for_good or _is_left_behind(error, made_from)


def _is_misspelled(error: BaseException) -> bool:
    """`datetime.now()`. A module with a `__getattr__` may take its names from the environment."""
    if not isinstance(error, AttributeError) or not isinstance(error.obj, ModuleType):
        return False
    return not hasattr(error.obj, "__getattr__")


def _is_left_behind(error: BaseException, made_from: Path | None) -> bool:
    """Whether it looked for a file of this directory that is only where the image was made from."""
    if made_from is None or not isinstance(error, FileNotFoundError):
        return False
    place, here = Path.cwd() / str(error.filename), Path.cwd()
    return place.is_relative_to(here) and (made_from / place.relative_to(here)).exists()


def main() -> int:
    """0 unless it lacks something wherever it runs. What it wants of its environment, an image has not got yet."""
    parser = argparse.ArgumentParser("python -m utils.processing.user_code")
    parser.add_argument("--made-from", type=Path)
    made_from, fails = parser.parse_args().made_from, False
    for step in (defaults, load):  # in the order of `run`: a .env is loaded in defaults.py
        try:
            step()
        except UnavailableError as error:
            print(error, file=sys.stderr)
        except ConfigError as error:
            print(*error.problems, sep="\n", file=sys.stderr)
            cause = error.__cause__
            fails |= cause is None or _lacks(cause, made_from)
    return int(fails)


if __name__ == "__main__":
    code = main()
    with suppress(OSError):  # nobody reads what was printed
        sys.stdout.flush()
    os._exit(code)  # without threads that worker.py has begun: an endless one would hold up the making of an image
