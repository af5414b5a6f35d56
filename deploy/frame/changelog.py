"""What CHANGELOG.md says to those who update: texts only."""

import re

TODO = "To do"


def news(before: str, after: str) -> tuple[list[str], int]:
    """Entries of `after` that `before` has not: those under `### To do`, as they stand; and how many others."""
    known = {_words(entry) for _, entry in _entries(before)}
    fresh = [(heading, entry) for heading, entry in _entries(after) if _words(entry) not in known]
    todo = [entry for heading, entry in fresh if heading == TODO]
    return todo, len(fresh) - len(todo)


def _entries(text: str) -> list[tuple[str, str]]:
    """Each entry with the heading above it."""
    found = []
    for part in re.split(r"^#+ ", text, flags=re.MULTILINE)[1:]:
        heading, _, body = part.partition("\n")
        entries = re.split(r"^- ", body, flags=re.MULTILINE)[1:]
        found += [(heading.strip(), re.sub(r"\n\s*", "\n  ", entry.strip())) for entry in entries]
    return found


def _words(entry: str) -> str:
    return " ".join(entry.split())
