"""Every link of the documents leads somewhere, also into a page; every page is found; the front page stays short."""

import re

import pytest

from tests.docs.pages import (
    CHANGELOG,
    CHANGELOG_IS_THE_FRAMES,
    DOCS,
    PAGES,
    README,
    README_IS_THE_FRAMES,
    Page,
    of_the_front_page,
)
from tests.program import ROOT

LINKING = [*PAGES, *([CHANGELOG] if CHANGELOG_IS_THE_FRAMES else []), Page(ROOT / "bench/README.md")]


def leads_somewhere(page: Page, target: str) -> bool:
    if target.startswith(("https://", "mailto:")):
        return True
    path, _, anchor = target.partition("#")
    file = (page.path.parent / path).resolve() if path else page.path
    is_ones_own = file == README.path and not README_IS_THE_FRAMES
    return file.is_file() and file.is_relative_to(ROOT) and (not anchor or is_ones_own or anchor in Page(file).anchors)


@pytest.mark.parametrize("page", LINKING, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Page) -> None:
    assert [target for target in page.links if not leads_somewhere(page, target)] == []


def test_links_that_lead_nowhere_are_noticed() -> None:
    for target in ("#no-such-title", "no-such-page.md", "settings.md#no-such-title", "../../README.md"):
        assert not leads_somewhere(DOCS["README"], target)


def test_the_index_has_a_line_for_each_page() -> None:
    listed = re.findall(r"^- \[.+?\]\((.+?)\.md\)", DOCS["README"].text, re.MULTILINE)
    assert len(listed) == len(set(listed))
    assert set(listed) == set(DOCS) - {"README"}


@of_the_front_page
def test_the_front_page_has_at_most_200_lines() -> None:
    assert len(README.text.splitlines()) <= 200


@of_the_front_page
def test_the_first_two_commands_are_make_demo_and_make_test() -> None:
    assert list(README.lines_of_shell())[:2] == ["make demo", "make test"]


@pytest.mark.parametrize("page", DOCS.values(), ids=lambda page: page.name)
def test_a_page_says_at_its_top_whom_it_is_for(page: Page) -> None:
    title, _, first = page.text.partition("\n\n")
    assert title.startswith("# ")
    assert len(first.split("\n\n")[0]) < 500


@of_the_front_page
def test_every_file_of_the_tour_exists() -> None:
    tour = README.texts("text")[-1].splitlines()
    assert len(tour) > 5
    for line in tour:
        assert (ROOT / line.split()[0]).exists(), line
