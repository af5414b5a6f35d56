"""Values of settings that users set in config.py, before defaults.py was there for them. Texts only."""

import ast
from typing import NamedTuple


class Assigned(NamedTuple):
    """`NAME = value` at the top of a file: its lines, and the value as it is written."""

    first: int
    last: int
    value: str


def moved(base: str, yours: str) -> tuple[str, dict[str, str]]:
    """Your config.py with the values of `base` again; and by name, what you had set. Nothing where it is no Python."""
    try:
        then, mine = _assigned(base), _assigned(yours)
    except SyntaxError:
        return yours, {}
    before, lines = base.splitlines(keepends=True), yours.splitlines(keepends=True)
    changed = {name: each.value for name, each in mine.items() if name in then and each.value != then[name].value}
    for name in sorted(changed, key=lambda name: mine[name].first, reverse=True):
        lines[mine[name].first : mine[name].last] = before[then[name].first : then[name].last]
    return "".join(lines), changed


def with_values(defaults: str, values: dict[str, str]) -> str:
    """The text of defaults.py with these values: in their lines where it has them, else at its end."""
    lines = defaults.splitlines(keepends=True)
    there = _assigned(defaults)
    for name, each in there.items():
        if name in values:
            lines[each.first : each.last] = [f"{name} = {values[name]}\n", *[""] * (each.last - each.first - 1)]
    added = [f"{name} = {value}\n" for name, value in values.items() if name not in there]
    return "".join([*lines, *(["\n"] if added else []), *added])


def _assigned(text: str) -> dict[str, Assigned]:
    """Of capital names, as settings have."""
    found = {}
    for node in ast.parse(text).body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if name.isupper():
                found[name] = Assigned(
                    node.lineno - 1, node.end_lineno or node.lineno, ast.get_source_segment(text, value) or ""
                )
            case _:
                pass
    return found
