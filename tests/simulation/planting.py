"""Plants a bug by a patch of source text: a piece of a function of the worker, and what stands in its place.

The function that is there gets the code of the changed text, wherever it was imported to before. A patch that does not
fit the text any more is told, never passed over: `Misfit`.
"""

import ast
import builtins
import dis
import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]


class Misfit(Exception):
    """The text that a patch changes is not there once, or is no part of a function, or would not run."""


class Patch(NamedTuple):
    """`old` stands once in the file, within a function or method, and becomes `new`."""

    file: str
    old: str
    new: str


@contextmanager
def planted(patches: Sequence[Patch]) -> Iterator[None]:
    """While it lasts, the functions run as the patches have them."""
    changed = [each for file in {each.file for each in patches} for each in _changed(file, tuple(patches))]
    before = [(function, function.__code__) for function, _ in changed]
    for function, code in changed:
        function.__code__ = code
    try:
        yield
    finally:
        for function, code in before:
            function.__code__ = code


def copied(function: Any) -> Any:
    """The function as it is now: what is planted later does not change it, but what it calls."""
    original = inspect.unwrap(function)
    return FunctionType(original.__code__, original.__globals__, original.__name__, original.__defaults__)


@cache
def _changed(file: str, patches: tuple[Patch, ...]) -> list[tuple[FunctionType, CodeType]]:
    """The functions of this file that the patches change, and their new code."""
    text = (ROOT / file).read_text()
    names = list(dict.fromkeys(_function_around(text, each) for each in patches if each.file == file))
    changed = text
    for each in patches:
        changed = changed.replace(each.old, each.new) if each.file == file else changed
    try:
        codes = dict(_codes(compile(changed, str(ROOT / file), "exec", dont_inherit=True)))
    except SyntaxError as error:
        raise Misfit(f"{file}: {error}: {patches}") from error
    module = import_module(file.removesuffix(".py").replace("/", "."))
    found = []
    for name in names:
        function, code = _function(module, name), codes[name]
        _check(file, function, code)
        found.append((function, code))
    return found


def _function_around(text: str, patch: Patch) -> str:
    """The qualified name of the outermost function that holds all of the old text."""
    if (times := text.count(patch.old)) != 1 or patch.old == patch.new:
        raise Misfit(f"{patch.file}: stands there {times} times: {patch.old}")
    first = text[: text.index(patch.old)].count("\n") + 1 + len(patch.old) - len(patch.old.lstrip("\n"))
    last = first + patch.old.strip("\n").count("\n")
    for name, function in _functions(ast.parse(text).body):
        if function.body[0].lineno <= first and last <= (function.end_lineno or 0):
            return name
    raise Misfit(f"{patch.file}: not within the body of a function: {patch.old}")


def _functions(
    body: Sequence[ast.stmt], within: str = ""
) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for each in body:
        if isinstance(each, ast.ClassDef):
            yield from _functions(each.body, f"{within}{each.name}.")
        elif isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
            yield within + each.name, each


def _codes(code: CodeType) -> Iterator[tuple[str, CodeType]]:
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield each.co_qualname, each
            yield from _codes(each)


def _function(module: object, name: str) -> FunctionType:
    found: Any = module
    for each in name.split("."):
        found = vars(found)[each]
    if isinstance(found, property):
        found = found.fget
    found = inspect.unwrap(getattr(found, "__func__", found))
    assert isinstance(found, FunctionType)
    return found


def _check(file: str, function: FunctionType, code: CodeType) -> None:
    """Complains about what would only show while it runs, and look like the bug."""
    if code.co_freevars != function.__code__.co_freevars:
        raise Misfit(f"{file}: {code.co_qualname} would need other variables around it")
    inner = [code, *(each for _, each in _codes(code))]
    read = (each for one in inner for each in dis.get_instructions(one) if each.opname == "LOAD_GLOBAL")
    globals_used = {each.argval for each in read}
    if missing := globals_used - function.__globals__.keys() - vars(builtins).keys():
        raise Misfit(f"{file}: {code.co_qualname} would use {sorted(missing)}, which the file does not have")
