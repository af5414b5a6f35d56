"""Files to which users add lines: requirements, their locks, and what is ignored. Where both sides add at one place git
would see a conflict, so they are merged by what each line is about. Texts only.
"""

import re
from collections.abc import Callable

REQUIREMENTS = ("requirements.txt", "requirements-dev.txt")
LOCKS = ("requirements.lock", "requirements-dev.lock")
IGNORED = (".gitignore", ".dockerignore")


class Differing(Exception):
    """Both changed the same requirements, each in another way: those are named. `marked`: all lines, as git does it."""

    def __init__(self, subjects: list[str], marked: str) -> None:
        super().__init__(", ".join(subjects))
        self.marked = marked


def merged(path: str, base: str, new: str, yours: str) -> str:
    """What the frame changed from `base` to `new`, with what was changed in `yours`. Raises Differing."""
    if yours == base:
        return new
    if new == base:
        return yours
    if path in LOCKS:
        return _merged_locks(base, new, yours)
    return _merged_lines(_name if path in REQUIREMENTS else str.strip, base, new, yours)


def marked(yours: str, new: str) -> str:
    """Both, where one must be chosen."""
    both = [f"{text}\n" if text and not text.endswith("\n") else text for text in (yours, new)]
    return "<<<<<<< yours\n{}=======\n{}>>>>>>> frame\n".format(*both)


def is_list(path: str) -> bool:
    return path in (*REQUIREMENTS, *LOCKS, *IGNORED)


def _name(line: str) -> str:
    """What a line of requirements.txt is about: the project; a comment is about itself."""
    found = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", line)
    return re.sub(r"[-_.]+", "-", found.group()).lower() if found else line.strip()


def _merged_lines(about: Callable[[str], str], base: str, new: str, yours: str) -> str:
    """`new`, with the lines that you changed, without those that you removed, and behind them those that you added.

    What both have added is as what both have changed: the version that you pin may be the only one that you can take.
    """
    then, news, mine = _by(about, base), _by(about, new), _by(about, yours)
    kept: list[str] = []
    differing: list[str] = []
    told = set()
    for line in new.splitlines():
        subject = about(line)
        before, now, own = then.get(subject), news.get(subject, line), mine.get(subject)
        if "\n" in now and subject in told:  # it stands with the first line of its project
            continue
        told.add(subject)
        if own == before or (own is not None and _pins(own) == _pins(now)):
            kept.append(now)
        elif now == before:
            kept += [own] if own is not None else []
        else:
            kept.append(marked(own or "", now).removesuffix("\n"))
            differing.append(subject)
    added = [lines for subject, lines in mine.items() if subject not in then and subject not in news]
    kept += [
        lines for subject, lines in mine.items() if subject in then and subject not in news and lines != then[subject]
    ]
    text = "\n".join([*kept, *added]) + "\n"
    if differing:
        raise Differing(differing, text)
    return text


def _pins(lines: str) -> str:
    """Without what is only said of it."""
    return re.sub(r"\s+#.*|\s", "", lines).lower()


def _by(about: Callable[[str], str], text: str) -> dict[str, str]:
    """The line of each subject; of a project all of its lines, as it has one for each Python or platform."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        subject = about(line)
        if subject and line not in found.get(subject, ()):
            found.setdefault(subject, []).append(line)
    return {subject: "\n".join(lines) for subject, lines in found.items()}


def _merged_locks(base: str, new: str, yours: str) -> str:
    """The packages of `new`, with those that are only in yours; one that the frame left alone stays as it is here."""
    (before_all, then), (head, news), (own_head, mine) = _blocks(base), _blocks(new), _blocks(yours)
    found = {}
    for name in sorted(news.keys() | mine.keys()):
        before, ours, theirs = then.get(name), news.get(name), mine.get(name)
        chosen = theirs if ours == before else ours
        if chosen is not None:
            found[name] = chosen
    return (head if own_head == before_all else own_head) + "".join(found.values())


def _blocks(lock: str) -> tuple[str, dict[str, str]]:
    """What stands before the first package; and for each package its lines, with hashes and comments.

    It may be there in several versions, each for other Pythons: they are one block.
    """
    head, *blocks = re.split(r"^(?=[A-Za-z0-9])", lock, flags=re.MULTILINE)
    found: dict[str, str] = {}
    for block in blocks:
        found[_name(block)] = found.get(_name(block), "") + block
    return head, found
