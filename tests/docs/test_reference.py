"""The reference pages and the code name the same things, in both directions: what is in one is in the other."""

import argparse
import ast
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url, text

import config
import main
import models
from config import EX_CONFIG, Settings
from tests.docs.pages import DOCS, PAGES, README, Page, of_the_front_page
from tests.monitoring.test_prometheus import exported
from tests.program import ROOT, sources
from utils.joining import dead_letters
from utils.joining.aggregator import Group
from utils.joining.dead_letters import REASONS
from utils.joining.layout import Layout
from utils.joining.messages import Fragment
from utils.joining.offsets import PartitionOffsets
from utils.kafka import clients, properties
from utils.processing import attempts
from utils.running import assembly, lifetime, supervision

MEASURED = re.compile(r"\bmeasured(?=[):,;]|: )(?!: (?:bench|tests|docs)/)")


def bare(cell: str) -> str:
    return cell.strip("` ¹")


# ---------------------------------------------------------------- settings


def declared() -> list[list[str]]:
    """Name (with ¹ where the row cannot set it) and default of each setting, as the page writes them."""
    settings = [each for each in fields(Settings) if "parse" in each.metadata]
    marked = [f"`{each.name.upper()}`" + ("" if each.metadata["row"] else " ¹") for each in settings]
    return [[name, written(each.default)] for name, each in zip(marked, settings, strict=True)]


def written(default: Any) -> str:
    if default == "":
        return ""
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def test_the_table_of_settings_is_that_of_the_code() -> None:
    rows = DOCS["settings"].table("setting")
    assert [[name, default] for name, _unit, default, _meaning in rows] == declared()


def test_times_and_sizes_have_their_unit() -> None:
    units = {bare(name): unit for name, unit, _default, _meaning in DOCS["settings"].table("setting")}
    for each in fields(Settings):
        expected = "s" if each.type == "float" or each.type is float else "bytes" if "bytes" in each.name else ""
        if "parse" in each.metadata:
            assert units[each.name.upper()] == expected


@of_the_front_page
def test_the_front_page_has_eight_settings_with_their_defaults() -> None:
    known = {bare(name): default for name, default in declared()}
    shown = [(bare(name), default) for name, default, _meaning in README.table("setting")]
    assert len(shown) == 8
    for name, default in shown:
        assert name.startswith("KAFKA_") or known[name] == default


# In capitals like a setting, and none: values, and what belongs to other programs.
NO_SETTINGS = {"SASL_SSL", "SASL_PLAINTEXT", "AUTO_INCREMENT", "PYTHON_IMAGE", "UPDATE_TOKEN", "PIP_EXTRA_INDEX_URL"}
NO_SETTINGS |= {"SSL_CERT_FILE"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_setting_that_is_named_is_one(page: Page) -> None:
    known = {each.name.upper() for each in fields(Settings)} | NO_SETTINGS
    known |= {f"{each.name.upper()}_FILE" for each in fields(Settings) if each.metadata.get("secret")}
    named = set(re.findall(r"`([A-Z]+(?:_[A-Z]+)+)(?:=[^`]*)?`", page.text))
    assert {name for name in named - known if not name.startswith("KAFKA_")} == set()


def test_the_settings_for_which_empty_is_a_value_are_those_of_the_code() -> None:
    [listed] = re.findall(r"An empty variable counts as not set, but for(.*?)\.", DOCS["settings"].text, re.DOTALL)
    declared_so = {each.name.upper() for each in fields(Settings) if each.metadata.get("empty")}
    assert set(re.findall(r"`([A-Z_]+)`", listed)) == declared_so


def test_the_properties_named_as_the_workers_own_are_all_of_them() -> None:
    [listed] = re.findall(r"It is an error to set one:(.*?)\.\n", DOCS["settings"].text, re.DOTALL)
    assert set(re.findall(r"`([a-z.]+)`", listed)) == config.OWNED_PROPERTIES


def test_the_properties_named_as_the_environments_alone_are_all_of_them() -> None:
    [listed] = re.findall(
        r"A row must not set what makes(.*?)\. The environment may\.", DOCS["settings"].text, re.DOTALL
    )
    assert set(re.findall(r"`([a-z.]+)`", listed)) == set(config.BARRED_IN_ROWS)


def test_the_defaults_of_properties_are_those_of_the_code() -> None:
    rows = DOCS["settings"].table("property")
    shown = {bare(name): default.replace(",", "") for name, _variable, default, _what in rows}
    defaults = {
        "session.timeout.ms": properties.SESSION_TIMEOUT_MS,
        "transaction.timeout.ms": properties.TRANSACTION_TIMEOUT_MS,
        "topic.metadata.refresh.interval.ms": clients.METADATA_REFRESH_MS,
        "message.timeout.ms": clients.RESULT_MS,
        "socket.timeout.ms": clients.ANSWER_MS,
        "topic.metadata.propagation.max.ms": clients.UNKNOWN_MS,
        "connections.max.idle.ms": clients.IDLE_MS,
        "queued.max.messages.kbytes": clients.FETCHES["queued.max.messages.kbytes"],
        "queued.min.messages": clients.FETCHES["queued.min.messages"],
        "message.max.bytes": 1_000_000,  # librdkafka's
        "batch.size": 1_000_000,  # librdkafka's
        "enable.sparse.connections": "false",
    }
    assert shown == {name: str(default) for name, default in defaults.items()}
    for name, variable, *_ in rows:
        assert bare(variable) == "KAFKA_" + bare(name).upper().replace(".", "_")


def test_kafka_properties_of_the_examples_are_taken_by_their_names() -> None:
    [block] = [block for block in DOCS["settings"].texts("sh") if block.startswith("KAFKA_")]
    environ = dict(pair.split("=", 1) for pair in block.split())
    settings = Settings.read({**environ, "CONSUMER_NAME": "a", "DATABASE_URL": "sqlite:///file"})
    assert settings.kafka["security.protocol"] == "SASL_SSL"
    assert len(settings.kafka) == len(environ)


# ---------------------------------------------------------------- the row


def test_the_columns_are_those_of_the_model() -> None:
    columns = [column.name for column in models.ConsumerConfig.__table__.columns]
    assert [bare(row[0]) for row in DOCS["row"].table("column")] == columns


def test_the_metadatas_of_the_example_are_valid() -> None:
    [init] = DOCS["row"].commands()
    given = main._parser().parse_args(init)
    settings = Settings().overlaid(given.metadatas)
    assert settings.message_timeout == 300
    assert settings.kafka == {"compression.type": "lz4"}


def test_the_sql_makes_a_table_and_a_row_that_the_worker_reads(mariadb_url: str) -> None:
    url = make_url(mariadb_url)
    database = create_engine(url)
    [statements] = DOCS["row"].texts("sql")
    with database.begin() as connection:
        for statement in statements.strip().rstrip(";").split(";\n"):
            connection.execute(text(statement.replace(":", "\\:")))
    database.dispose()
    row = models.load(models.engine(url), "paid-orders")
    assert row.topics_input == ("orders", "payments")
    assert row.bootstrap_servers == "kafka-1:9092"
    assert Settings().overlaid(row.metadatas).message_timeout == 300


# ---------------------------------------------------------------- commands


def parsers(parser: argparse.ArgumentParser, name: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Each command that can be given, such as `dlq list`, with its parser."""
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        yield name, parser
    for action in below:
        for word, each in action.choices.items():
            yield from parsers(each, f"{name} {word}".strip())


def options(parser: argparse.ArgumentParser) -> set[str]:
    return {option for action in parser._actions for option in action.option_strings} - {"-h", "--help"}


def test_the_table_of_commands_is_that_of_the_code() -> None:
    shown = {
        bare(name): set(re.findall("`(--.*?)`", options)) for name, options, _ in DOCS["commands"].table("command")
    }
    assert shown == {name: options(parser) for name, parser in parsers(main._parser())}


def test_where_a_package_is_to_be_added_the_page_says_how_it_gets_into_the_environment() -> None:
    """`make lock` alone was named, which installs nothing: the worker said the same as before."""
    texts = [page.text for page in PAGES] + [(ROOT / "requirements.txt").read_text()]
    paragraphs = [each for text in texts for each in re.split(r"\n\n|\n(?=[|#]|make |\d\. )", text)]
    told = [each for each in paragraphs if "requirements.txt" in each and "make lock" in each]
    assert len(told) >= 4
    assert [each for each in told if "make setup" not in each] == []


def test_every_target_of_make_is_on_one_of_two_pages() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    pages = DOCS["commands"].text + DOCS["change-the-frame"].text
    assert targets - set(re.findall(r"\bmake ([a-z-]+)", pages)) == set()


@pytest.mark.parametrize(
    "page", [pytest.param(README, marks=of_the_front_page), DOCS["commands"]], ids=lambda page: page.name
)
def test_the_exit_codes_are_those_of_main(page: Page) -> None:
    assert [row[0] for row in page.table("exit code")] == ["0", str(EX_CONFIG), "1"]


# ---------------------------------------------------------------- metrics


def test_the_table_of_metrics_is_what_a_worker_exports() -> None:
    rows = DOCS["metrics"].table("metric")
    listed = {bare(name): set(re.findall("`(.*?)`", labels)) for name, labels, _ in rows}
    build = {"python", "confluent_kafka", "version", "commit"}
    assert listed == {**exported(), "consumer_build_info": build}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_metric_that_is_named_is_exported(page: Page) -> None:
    named = set(re.findall(r"`(consumer_[a-z_]+)`", page.text))
    assert named - {"consumer_name", "consumer_configs"} <= set(exported())


def test_every_path_that_is_served_is_on_the_page_and_no_other() -> None:
    code = "\n".join(path.read_text() for path in sources() if path.parent.name == "monitoring")
    served = set(re.findall(r'"(/[a-z./]*)": ', code))
    assert len(served) >= 6
    assert set(re.findall(r"`(/[a-z./]*)`", DOCS["run-and-watch"].text)) == served


# ---------------------------------------------------------------- log messages

LEVELS = {"info": "INFO", "warning": "WARNING", "error": "ERROR", "exception": "ERROR", "critical": "CRITICAL"}


def logged() -> set[tuple[str, str]]:
    """Message and level of each line that the code logs at INFO and above, where the message is constant."""
    found = set()
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
                level, message = node.func.attr, node.args[0]
                is_logger = ast.unparse(node.func.value) in {"logger", "logging.getLogger('consumer')"}
                if is_logger and isinstance(message, ast.Constant) and level in LEVELS:
                    found.add((str(message.value).replace("%s", "…"), LEVELS[level]))
    return found


def test_the_table_of_log_messages_is_what_the_code_logs() -> None:
    listed = [(message.strip("`"), level) for message, level, _ in DOCS["log-messages"].table("message")]
    assert len(listed) == len(set(listed))
    assert set(listed) == logged()


# ---------------------------------------------------------------- dead letters


def test_the_reasons_are_those_of_the_code() -> None:
    assert [bare(row[0]) for row in DOCS["dead-letter-record"].table("reason")] == list(REASONS)


def test_the_headers_are_those_of_the_code() -> None:
    """Of a dead letter that has all of them, and of one that is too large."""
    group = Group(
        "1", tuple(Fragment(each, PartitionOffsets(f"t{each}", 0, Layout(""), 0), 0, b"{}") for each in (0, 1))
    )
    about = {"reason": "incomplete", "consumer": "c", "time": "now", "error": ValueError("x")}
    letter = dead_letters.write(group, **about, missing=["a"], attempts=2)  # type: ignore[arg-type]
    written = {name for name, _ in dead_letters.without_contents(letter).headers}
    assert {bare(row[0]) for row in DOCS["dead-letter-record"].table("header")} == written


def test_the_value_shown_is_what_is_written() -> None:
    [shown] = DOCS["dead-letter-record"].texts("json")
    orders = Fragment(0, PartitionOffsets("orders", 3, Layout(""), 17), 17, b'{"id": 1001, "content": {"item": "tea"}}')
    payments = Fragment(1, PartitionOffsets("payments", 3, Layout(""), 9), 9, b'{"id": 1001, "content": {"paid": 9.8}}')
    letter = dead_letters.write(Group("1001", (orders, payments)), "process_failed", consumer="c", time="now")
    assert letter.value
    assert ast.literal_eval(letter.value.decode()) == ast.literal_eval(shown)


def test_every_header_that_is_named_is_written() -> None:
    known = {bare(row[0]) for row in DOCS["dead-letter-record"].table("header")}
    for page in PAGES:
        assert set(re.findall(r"`(dlq\.[a-z.]+)`", page.text)) <= known, page.name


# ---------------------------------------------------------------- figures


def told(seconds: float) -> str:
    return f"{seconds:g} s"


WAITS = [f"{min(2.0**each, lifetime.LONGEST_PAUSE):g}" for each in range(supervision.RESTARTS)]  # of supervise()


@pytest.mark.parametrize(
    "sentence",
    [
        f"started again, after {', '.join(WAITS[:-1])} and {WAITS[-1]} s.",
        f"`COMMIT_INTERVAL` ({told(Settings().commit_interval)})",
        f"`CONFIG_REFRESH` ({told(Settings().config_refresh)})",
        f"`SHUTDOWN_TIMEOUT` ({told(Settings().shutdown_timeout)})",
        f"`MAX_PENDING_BYTES` ({Settings().max_pending_bytes >> 20} MB)",
        f"longer than `SHUTDOWN_TIMEOUT` and {told(lifetime.GRACE)}",
        f"did not end within {told(lifetime.RELOAD)}, `SHUTDOWN_TIMEOUT` and {told(lifetime.GRACE)}",
        f"`CONFIG_REFRESH` and {told(assembly.SETTLE)} after the input topics have changed",
        f"for {properties.SESSION_TIMEOUT_MS // 1000} s or longer (`session.timeout.ms`)",
        f"| outage | {attempts.OUTAGE} different ids have failed",
    ],
)
def test_how_it_works_has_the_figures_of_the_code(sentence: str) -> None:
    assert sentence in " ".join(DOCS["how-it-works"].text.split())


@of_the_front_page
def test_the_front_page_has_the_figures_of_the_code() -> None:
    text = " ".join(README.text.split())
    assert f"After {Settings().process_attempts} failed calls (`PROCESS_ATTEMPTS`)" in text
    assert f"If calls for {attempts.OUTAGE} different ids fail in a row" in text
    assert f"pauses of at most {lifetime.LONGEST_PAUSE:g} s" in text


# ---------------------------------------------------------------- rules


def test_every_rule_that_code_or_tests_cite_is_in_how_it_works() -> None:
    rules = re.findall(r"^\*\*Rule (\d+):", DOCS["how-it-works"].text, re.MULTILINE)
    assert rules == [str(number) for number in range(1, 15)]
    cited = set()
    for path in [*sources(), *(ROOT / "tests").rglob("*.py"), *(ROOT / "bench").rglob("*.py")]:
        cited |= set(re.findall(r"\brule (\d+)", path.read_text()))
    assert cited
    assert cited <= set(rules)


def test_no_file_cites_the_design_of_the_projects_makers() -> None:
    """Who copies this does not have it, but docs/how-it-works.md."""
    others = [path for room in ("tests", "bench") for path in (ROOT / room).rglob("*.py") if path.parent.name != "docs"]
    assert [path for path in [*sources(), *others] if "DESIGN" in path.read_text()] == []


# ---------------------------------------------------------------- what was measured


def test_every_fact_that_a_comment_calls_measured_says_where_it_stands() -> None:
    """In the comment (`measured: bench/README.md`), or by a row of docs/measured.md."""
    said = {path.relative_to(ROOT).as_posix(): len(MEASURED.findall(path.read_text())) for path in sources()}
    listed = Counter(bare(row[0]) for row in DOCS["measured"].table("in"))
    assert listed == Counter({path: number for path, number in said.items() if number})


def test_a_fact_that_was_measured_stands_behind_a_link_in_a_test_or_was_tried_once() -> None:
    for file, found, stands in DOCS["measured"].table("in"):
        is_named = "](../" in stands or "`tests/" in stands
        assert is_named or stands.startswith(("once", "held against Kafka")), (file, found)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_that_says_measured_links_to_it_or_names_the_test(page: Page) -> None:
    without_links = re.sub(r"\[.*?\]\(.*?\)", "", page.prose)
    assert re.findall(r"(?<!\")\(measured(?:[,)]|: (?!`tests/))", without_links) == []
