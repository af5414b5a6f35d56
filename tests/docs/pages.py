"""README.md and the pages of docs/, as the tests of this folder read them."""

import re
import shlex
from collections.abc import Iterator
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.program import ROOT


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    text: str


class Page:
    """A document in Markdown."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path.relative_to(ROOT))
        self.text = path.read_text()

    @cached_property
    def blocks(self) -> list[Block]:
        fences = re.findall(r"^```(\w*)\n(.*?)^```$", self.text, re.DOTALL | re.MULTILINE)
        return [Block(*each) for each in fences]

    @cached_property
    def prose(self) -> str:
        """The page without its blocks."""
        return re.sub(r"^```.*?^```$", "", self.text, flags=re.DOTALL | re.MULTILINE)

    @cached_property
    def anchors(self) -> set[str]:
        """Of its headings, as GitHub and GitLab make them."""
        titles = re.findall(r"^#+ (.*)", self.prose, re.MULTILINE)
        return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}

    @cached_property
    def links(self) -> list[str]:
        return re.findall(r"(?:\]\(|src=\"|srcset=\")([^)\"]*)", self.prose)

    def texts(self, language: str) -> list[str]:
        return [block.text for block in self.blocks if block.language == language]

    def table(self, first_column: str) -> list[list[str]]:
        """The rows, as lists of cells, of all tables of the page whose first title is this."""
        rows = []
        for table in self.text.split(f"| {first_column} |")[1:]:
            lines = takewhile(lambda line: line.startswith("|"), table.splitlines()[2:])
            rows += [[cell.strip() for cell in row.strip("|").split("|")] for row in lines]
        return rows

    def lines_of_shell(self) -> Iterator[str]:
        """Each command, without its comment; one that goes on over several lines is one."""
        for text in self.texts("sh"):
            for line in text.replace("\\\n", " ").splitlines():
                if words := shlex.split(line, comments=True):
                    yield shlex.join(words)

    def commands(self) -> Iterator[list[str]]:
        """The arguments of each `python main.py` in a block of shell lines."""
        for line in self.lines_of_shell():
            words = shlex.split(line)
            if words[:2] in (["python", "main.py"], [".venv/bin/python", "main.py"]):
                yield words[2:]


README = Page(ROOT / "README.md")
DOCS = {path.stem: Page(path) for path in sorted((ROOT / "docs").glob("*.md"))}
CHANGELOG = Page(ROOT / "CHANGELOG.md")

# A copy may have others, of its owner: these are not judged.
README_IS_THE_FRAMES = README.text.startswith("# Consumer Skeleton\n")
CHANGELOG_IS_THE_FRAMES = "[1.0.0] - 2026-11-29" in CHANGELOG.text
PAGES = [*([README] if README_IS_THE_FRAMES else []), *DOCS.values()]
of_the_front_page = pytest.mark.skipif(not README_IS_THE_FRAMES, reason="this copy has a README.md of its own")
