"""Every block of the documents: commands exist, code is valid and does what the page says. What is `text` is output."""

import ast
import json
import re
import shlex
from itertools import takewhile
from random import Random
from typing import Any

import pytest

import main
from config import Settings
from examples.demo_feed import ORDERS, samples
from tests.docs.pages import DOCS, PAGES, README, Page, of_the_front_page
from tests.program import ROOT
from utils.joining.layout import Layout
from utils.joining.messages import Fragment, join
from utils.joining.offsets import PartitionOffsets

RULES = "".join((ROOT / name).read_text() for name in ("Makefile", "tests/frame.mk"))
TARGETS = set(re.findall(r"^([a-z-]+):", RULES, re.MULTILINE))
LANGUAGES = {"sh", "text", "json", "python", "sql", "yaml", "mermaid"}

# Shell lines of other programs than this one's. What is not run by a test of ours says where it was tried.
OTHERS = [
    r"export( [A-Z_]+=\S+)+",
    r"[A-Z_]+=\S+( [A-Z_]+=\S+)*",  # only settings: test_reference.py reads them
    r"source \.venv/bin/activate",
    r"python -m venv \.venv",
    r"\.venv/bin/python -m pip install -r requirements\.txt",
    r"git (clone|bundle) .*",  # tests/deploy/test_update.py
    r"sha256sum --check \S+",  # deploy/pack-check.sh, and the next two
    r"tar -xf \S+",
    r"sh consumer/install\.sh /\S+",
    r"sh consumer/install\.sh --image \S+",
    r"(systemctl|mkdir|cd|cp|install|printf) .*",  # tests/machine.py runs the block as it stands
    r"sh deploy/image\.sh (packages|program) /\S+",  # and these
    r"sh -c 'cd /opt/consumers/\S+; .*'",
    # What only Docker and Kubernetes could try. docs/deploy.md says what of it has been.
    r"docker compose -f deploy/compose\.yaml .*",
    r"docker pull \S+",
    r"(docker build -t registry\S+|kubectl) .*",
    r"docker build -t \S+ \.",  # tests/test_image.py, and `make image-check`, which runs the steps of the Dockerfile
]


def documents(block: str) -> list[Any]:
    """The JSON documents of a block, one after the other."""
    found = []
    while block.strip():
        document, end = json.JSONDecoder().raw_decode(block.lstrip())
        found.append(document)
        block = block.lstrip()[end:]
    return found


@pytest.fixture(params=PAGES, ids=lambda page: str(page.name))
def page(request: pytest.FixtureRequest) -> Page:
    found: Page = request.param
    return found


def test_every_block_says_what_it_is(page: Page) -> None:
    assert {block.language for block in page.blocks} <= LANGUAGES
    assert page.text.count("```") == 2 * len(page.blocks)


def test_every_line_of_shell_is_a_command_that_there_is(page: Page) -> None:
    """The tutorial is not looked at: test_tutorial.py runs it as a whole."""
    for line in page.lines_of_shell() if page is not DOCS["tutorial"] else ():
        words = shlex.split(line)
        if words[0] == "make":
            assert set(words[1:2]) <= TARGETS, line
        elif words[:2] in (["python", "main.py"], [".venv/bin/python", "main.py"]):
            main._parser().parse_args(words[2:])
        elif words[1:2] == ["-m"] and words[2].startswith("tests."):
            assert (ROOT / words[2].replace(".", "/")).with_suffix(".py").is_file(), line
        else:
            assert any(re.fullmatch(other, line) for other in OTHERS), f"who tries this? {line}"


def test_every_command_that_is_named_exists(page: Page) -> None:
    for words in re.findall(r"python main\.py ([a-z]+(?: [a-z]+)*)", page.text):
        with pytest.raises(SystemExit) as ended:
            main._parser().parse_args([*words.split()[: 2 if words.startswith("dlq ") else 1], "--help"])
        assert ended.value.code == 0, words


def test_every_make_target_that_is_named_exists(page: Page) -> None:
    assert set(re.findall(r"`make ([a-z-]+)", page.text)) <= TARGETS


def test_every_module_that_is_named_exists(page: Page) -> None:
    for module in re.findall(r"python -m ((?:tests|bench|utils)[a-z_.]*)", page.text):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), module


def test_every_file_that_is_named_exists(page: Page) -> None:
    named = re.findall(r"`((?:deploy|docs|examples|tests|bench|utils)/[\w./…*-]*)`", page.text)
    for path in named:
        if "…" not in path and not path.startswith("deploy/wheels"):
            assert list(ROOT.glob(path.rstrip("/"))), path


def test_code_is_valid(page: Page) -> None:
    for text in page.texts("python"):
        ast.parse(text)
    for text in page.texts("json"):
        documents(text)


def test_diagrams_are_of_a_kind_that_is_drawn(page: Page) -> None:
    """GitHub and GitLab draw them."""
    for text in page.texts("mermaid"):
        assert re.match(r"(flowchart (LR|TD)|sequenceDiagram|stateDiagram-v2)\n", text)


# ---------------------------------------------------------------- what the blocks show is so


@of_the_front_page
def test_the_messages_join_as_shown_and_the_example_returns_what_is_shown() -> None:
    incoming, joined, result = map(documents, README.texts("json"))
    offsets = PartitionOffsets("any", 0, Layout(""), 0)
    fragments = [Fragment(index, offsets, 0, json.dumps(message).encode()) for index, message in enumerate(incoming)]
    assert [join(fragments)] == joined
    [example] = README.texts("python")
    names: dict[str, Any] = {}
    exec(example, names)
    assert [names["process"](join(fragments), "paid-orders")] == result
    unpaid = join(fragments)
    unpaid["content"]["paid"] = 1
    assert names["process"](unpaid, "paid-orders") is None


@of_the_front_page
def test_the_example_of_the_front_page_takes_all_that_the_demo_brings() -> None:
    """It had no tax for sugar: who tried it in the demo saw it fail."""
    names: dict[str, Any] = {}
    exec(README.texts("python")[0], names)
    orders = [
        each
        for each in takewhile(lambda sample: sample.at < 60, samples(Random(1)))
        if each.topic == ORDERS and each.id
    ]
    assert orders
    for order in orders:
        message = {"id": order.id, "content": {**order.content, "method": "card", "paid": order.content["total"]}}
        assert names["process"](message, "demo")["content"]["tax"] >= 0


def test_the_example_of_a_service_is_the_file_that_is_tested() -> None:
    [shown] = DOCS["slow-services"].texts("python")
    file = ast.parse((ROOT / "examples/http_session.py").read_text())
    for node in ast.walk(file):
        if isinstance(node, ast.Module | ast.FunctionDef) and ast.get_docstring(node):
            del node.body[0]
    assert ast.unparse(ast.parse(shown)) == ast.unparse(file)


def test_the_container_gets_settings_that_there_are_and_more_time_to_stop_than_it_needs() -> None:
    [compose] = DOCS["run-and-watch"].texts("yaml")
    [seconds] = re.findall(r"stop_grace_period: (\d+)s", compose)
    assert int(seconds) > 2 * Settings().shutdown_timeout
    environment = dict(re.findall(r"^ {6}([A-Z_]+): (\S+)$", compose, re.MULTILINE))
    assert Settings.read(environment).consumer_name == "paid-orders"
