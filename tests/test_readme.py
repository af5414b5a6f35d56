"""README.md: what it says is so. Commands, settings, the table, the messages, the SQL and the log lines are tried."""

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import fields
from itertools import takewhile
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url, text

import config
import main
import models
from config import EX_CONFIG, Settings
from tests.monitoring.test_prometheus import exported
from tests.program import ROOT, sources
from utils.joining.messages import Fragment, join
from utils.joining.offsets import PartitionOffsets

README = (ROOT / "README.md").read_text()
CODE = "\n".join(path.read_text() for path in sources())


def blocks(language: str) -> list[str]:
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    return [block for named, block in fences if named == language]


def table(first_column: str) -> list[list[str]]:
    """The rows, as lists of cells, of the table whose first title is this."""
    rows = takewhile(lambda line: line.startswith("|"), README.split(f"| {first_column} |", 1)[1].splitlines()[2:])
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def commands() -> Iterator[list[str]]:
    """The arguments of each `python main.py` in a block of shell lines."""
    for block in blocks("sh"):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("python main.py"):
                yield shlex.split(line, comments=True)[2:]


# ---------------------------------------------------------------- commands


def test_the_first_two_commands_are_make_demo_and_make_test() -> None:
    lines = blocks("sh")[0].splitlines()
    assert [line.split("#")[0].strip() for line in lines] == ["make demo", "make test"]


def test_every_command_line_of_main_is_understood() -> None:
    complete = [arguments for arguments in commands() if arguments != ["init"]]  # shown once without its options
    assert len(complete) >= 4
    for arguments in complete:
        main._parser().parse_args(arguments)


def test_every_command_of_main_that_is_named_exists() -> None:
    named = set(re.findall(r"python main\.py ([a-z]+)", README)) | {"run"}
    for name in named:
        with pytest.raises(SystemExit) as ended:
            main._parser().parse_args([name, "--help"])
        assert ended.value.code == 0


def test_every_make_target_that_is_named_exists() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = set(re.findall(r"(?:`|^)make ([a-z-]+)", README, re.MULTILINE))
    assert named >= {"demo", "test", "lock", "wheels", "check"}
    assert named <= set(targets)


def test_the_exit_codes_are_those_of_main() -> None:
    assert [row[0] for row in table("exit code")] == ["0", str(EX_CONFIG), "1"]


# ---------------------------------------------------------------- settings and the row


def declared() -> list[list[str]]:
    """Name (with ¹ where the row cannot set it) and default of each setting, as the README writes them."""
    settings = [each for each in fields(Settings) if "parse" in each.metadata]
    marked = [f"`{each.name.upper()}`" + ("" if each.metadata["row"] else " ¹") for each in settings]
    return [[name, _written(each.default)] for name, each in zip(marked, settings, strict=True)]


def _written(default: Any) -> str:
    if default == "":
        return ""
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def test_the_table_of_settings_is_that_of_the_code() -> None:
    assert [[name, default] for name, _unit, default, _meaning in table("setting")] == declared()


def test_times_and_sizes_have_their_unit() -> None:
    units = {name.strip("` ¹"): unit for name, unit, _default, _meaning in table("setting")}
    for each in fields(Settings):
        expected = "s" if each.type == "float" or each.type is float else "bytes" if "bytes" in each.name else ""
        if "parse" in each.metadata:
            assert units[each.name.upper()] == expected


def test_the_properties_named_as_the_workers_own_are() -> None:
    [listed] = re.findall(r"Properties on which the worker's rules stand \((.*?)and\sa\sfew\smore\)", README, re.DOTALL)
    named = set(re.findall(r"`([a-z.]+)`", listed))
    assert named
    assert named <= config.OWNED_PROPERTIES


def test_kafka_properties_of_the_examples_are_taken_by_their_names() -> None:
    [block] = [block for block in blocks("sh") if block.startswith("KAFKA_")]
    environ = dict(pair.split("=", 1) for pair in block.split())
    settings = Settings.read({**environ, "CONSUMER_NAME": "a", "DATABASE_URL": "sqlite:///file"})
    assert settings.kafka["security.protocol"] == "SASL_SSL"
    assert len(settings.kafka) == len(environ)


def test_the_columns_are_those_of_the_model() -> None:
    columns = [column.name for column in models.ConsumerConfig.__table__.columns]
    assert [row[0].strip("`") for row in table("column")] == columns


def test_the_metadatas_of_the_example_are_valid() -> None:
    [init] = [arguments for arguments in commands() if arguments[:1] == ["init"] and len(arguments) > 1]
    given = main._parser().parse_args(init)
    settings = Settings().overlaid(given.metadatas)
    assert settings.message_timeout == 300
    assert settings.kafka == {"compression.type": "lz4"}


def test_the_sql_makes_a_table_and_a_row_that_the_worker_reads(mariadb_url: str) -> None:
    url = make_url(mariadb_url)
    database = create_engine(url)
    [statements] = blocks("sql")
    with database.begin() as connection:
        for statement in statements.strip().rstrip(";").split(";\n"):
            connection.execute(text(statement.replace(":", "\\:")))
    database.dispose()
    row = models.load(models.engine(url), "paid-orders")
    assert row.topics_input == ("orders", "payments")
    assert row.bootstrap_servers == "kafka-1:9092"
    assert Settings().overlaid(row.metadatas).message_timeout == 300


# ---------------------------------------------------------------- messages


def documents(block: str) -> list[Any]:
    """The JSON documents of a block, one after the other."""
    found = []
    while block.strip():
        document, end = json.JSONDecoder().raw_decode(block.lstrip())
        found.append(document)
        block = block.lstrip()[end:]
    return found


def test_the_messages_join_as_shown_and_the_example_returns_what_is_shown() -> None:
    incoming, joined, result = map(documents, blocks("json"))
    offsets = PartitionOffsets("any", 0, "", 0)
    fragments = [Fragment(index, offsets, 0, json.dumps(message).encode()) for index, message in enumerate(incoming)]
    assert [join(fragments)] == joined
    [example] = blocks("python")
    names: dict[str, Any] = {}
    exec(example, names)
    assert [names["process"](join(fragments), "paid-orders")] == result
    unpaid = join(fragments)
    unpaid["content"]["paid"] = 1
    assert names["process"](unpaid, "paid-orders") is None


# ---------------------------------------------------------------- the rest


def test_the_log_lines_are_those_of_the_code() -> None:
    for message, level, _ in table("message"):
        begins = message.strip("`").removesuffix("…").strip()
        assert re.search(rf'logger\.{level.lower()}\(\s*"{re.escape(begins)}', CODE), message


def test_the_table_of_metrics_is_what_a_worker_exports() -> None:
    listed = {name.strip("`"): set(re.findall("`(.*?)`", labels)) for name, labels, _ in table("metric")}
    build = {"python", "confluent_kafka"}
    assert listed == {**exported(), "consumer_build_info": build}


def test_every_link_leads_somewhere() -> None:
    titles = re.findall(r"^#+ (.*)", README, re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
    for target in re.findall(r"(?:\]\(|src=\"|srcset=\")([^)\"]*)", README):
        if target.startswith("#"):
            assert target[1:] in anchors
        elif not target.startswith("https://"):
            assert (ROOT / target).is_file()


def test_every_file_of_the_tour_exists() -> None:
    tour = blocks("")[-1].splitlines()
    assert len(tour) > 5
    for line in tour:
        assert (ROOT / line.split()[0]).exists(), line
