"""Settings: three layers, every problem named at once, secrets never shown."""

import dataclasses
import json
import os
import ssl
import threading
from base64 import b64encode
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from confluent_kafka import KafkaException, Producer

from config import OFTEN_SET, OWNED_PROPERTIES, ConfigError, Settings, quoted

MINIMAL = {"CONSUMER_NAME": "orders", "DB_NAME": "app", "DB_USER": "worker"}
SECRET = "p@ss/w:rd %41#?"


def problems_of(environ: dict[str, str]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        Settings.read(environ)
    return caught.value.problems


def problems_of_row(metadatas: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        Settings.read(MINIMAL).overlaid(metadatas)
    return caught.value.problems


# ---------------------------------------------------------------- layers


def test_the_topic_of_dead_letters_is_named_by_the_consumer_unless_the_environment_or_the_row_name_it() -> None:
    environ = {"CONSUMER_NAME": "orders", "DATABASE_URL": "sqlite:///file"}
    assert Settings.read(environ).dead_letters == "orders-dlq"
    assert Settings.read({**environ, "DLQ_TOPIC": "failed"}).dead_letters == "failed"
    off = Settings.read({**environ, "DLQ_TOPIC": ""})
    assert off.dead_letters == ""
    assert off.overlaid('{"dlq_topic": "of-<consumer_name>"}').dead_letters == "of-orders"
    with pytest.raises(ConfigError, match="DLQ_TOPIC must be the name of a topic"):
        Settings.read({**environ, "DLQ_TOPIC": "no topic"})


def test_the_defaults_of_the_file_hold_where_nothing_else_is_set() -> None:
    settings = Settings.read(MINIMAL)

    assert settings.message_timeout == 60
    assert settings.delivery == "at_least_once"
    assert settings.sources["MESSAGE_TIMEOUT"] == "default"


OWN = {"CONSUMER_NAME": "own", "DB_HOST": "localhost", "DB_NAME": "app", "DB_USER": "worker", "CONCURRENCY": 8}


def test_defaults_py_wins_over_the_defaults_and_the_environment_over_defaults_py() -> None:
    settings = Settings.read({"CONSUMER_NAME": "orders"}, {**OWN, "RETRY_BACKOFF": "0.5", "__name__": "defaults"})

    assert (settings.consumer_name, settings.db_user, settings.concurrency) == ("orders", "worker", 8)
    assert settings.retry_backoff == 0.5
    assert settings.sources["CONSUMER_NAME"] == "environment"
    assert settings.sources["CONCURRENCY"] == settings.sources["DB_NAME"] == "defaults.py"
    assert settings.sources["DB_HOST"] == settings.sources["DELIVERY"] == "default"


def test_what_is_wrong_in_defaults_py_is_named_with_all_the_rest() -> None:
    with pytest.raises(ConfigError) as caught:
        Settings.read({"DELIVERY": "twice"}, {**OWN, "DB_PORT": "tcp", "KAFKA_GROUP_ID": "mine"})

    assert [problem.split()[0] for problem in caught.value.problems] == ["DB_PORT", "DELIVERY", "KAFKA_GROUP_ID"]
    assert caught.value.problems[0].startswith("DB_PORT (in defaults.py) must be ")


def test_kafka_properties_may_stand_in_defaults_py() -> None:
    own = {**OWN, "KAFKA_LINGER_MS": 5, "KAFKA_CLIENT_RACK": "a", "KAFKA_ENABLE_METRICS_PUSH": False}
    settings = Settings.read({"KAFKA_CLIENT_RACK": "b"}, own)

    assert settings.kafka == {"linger.ms": "5", "client.rack": "b", "enable.metrics.push": "false"}
    assert (settings.sources["linger.ms"], settings.sources["client.rack"]) == ("defaults.py", "environment")


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("mysql://u:secret@h@x/d\n", "'***@x/d\\n'"),
        ("a@b", "'a@b'"),
        ("a:b", "'a:b'"),
        ([["x:y@z"]], "[['x:y@z']]"),
        (":" * 60_000, "'" + ":" * 79 + "…"),
    ],
)
def test_what_was_set_is_quoted_without_a_login_and_cut(given: object, shown: str) -> None:
    assert quoted(given) == shown


def test_what_is_nested_too_deep_to_be_quoted_is_said_to_be_so() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    assert quoted(deep) == "what is nested too deep"
    while deep:  # else Python frees it step in step
        deep = cast("list[object]", deep.pop())


def test_the_row_of_another_consumer_is_bad_and_no_more_whatever_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(_content: object, _problems: object) -> dict[str, str]:
        raise RuntimeError("never thought of")

    monkeypatch.setattr("config._kafka_of_row", explode)
    with pytest.raises(ConfigError, match="metadatas cannot be looked at: RuntimeError"):
        Settings().of_row("other", "{}")


def test_an_address_that_kubernetes_puts_into_the_environment_is_no_port() -> None:
    settings = Settings.read({**MINIMAL, "DB_PORT": "tcp://10.96.0.1:3306", "HTTP_PORT": "tcp://10.96.0.2:80"})
    assert (settings.db_port, settings.http_port) == (3306, Settings().http_port)
    with pytest.raises(ConfigError, match="HTTP_PORT"):
        Settings.read({**MINIMAL, "HTTP_PORT": "udp://10.96.0.2:80"})


def test_a_file_whose_name_the_locale_has_not_is_told_to_the_worker_that_uses_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With LANG=de_DE.ISO-8859-1 the row of one consumer ended each start of all others."""

    def realpath(path: str) -> str:
        raise UnicodeEncodeError("latin-1", path, 0, 1, "no such letter")

    monkeypatch.setattr("os.path.realpath", realpath)
    row = '{"kafka": {"ssl.ca.location": "/etc/ssl/\u017b.pem"}}'
    assert Settings().of_row("other", row).kafka == {"ssl.ca.location": "/etc/ssl/\u017b.pem"}


def test_a_row_with_thousands_of_odd_keys_is_soon_looked_at() -> None:
    warnings = Settings().of_row("other", json.dumps({f"message_timeou{at}": 1 for at in range(10_000)})).warnings
    assert len(warnings) <= 200


@pytest.mark.parametrize("name", ["MESSAGE_TIMOUT", "message_timeout", "COMMIT_INTERVALL"])
def test_a_name_in_defaults_py_that_is_nearly_a_setting_is_a_warning(name: str) -> None:
    (warning,) = Settings.read({}, {**OWN, name: 1, "__doc__": "…", "API_URL": "http://api"}).warnings

    assert warning.startswith(f"defaults.py: {name} is not a setting and is ignored: did you mean ")


@pytest.mark.parametrize("name", ["KAFKA", "kafka"])
def test_kafka_properties_in_one_name_of_defaults_py_are_a_warning(name: str) -> None:
    given = {name: {"sasl.mechanism": "PLAIN", "sasl.password": "topsecret"}}
    (warning,) = Settings.read({}, {**OWN, **given}).warnings

    ignored = f"defaults.py: {name} is not a setting and is ignored"
    assert warning == f"{ignored}: give each property its own name, KAFKA_SASL_MECHANISM = …"
    assert not Settings.read({}, {**OWN, "KAFKA": {}, "kafka": pytest}).warnings, "nothing is lost by these"


def test_a_kafka_property_by_another_name_than_its_own_is_a_warning() -> None:
    """It was ignored without a word: a worker without TLS, say."""
    own = Settings.read({}, {**OWN, "kafka_security_protocol": "SSL", "kafka_of": dict, "KAFKA_LINGER_MS": 5})
    said = "is not a setting and is ignored: did you mean"
    assert own.warnings == (f"defaults.py: kafka_security_protocol {said} KAFKA_SECURITY_PROTOCOL?",)
    environment = Settings.read({**MINIMAL, "Kafka_linger_ms": "5"})
    assert environment.warnings == (f"Kafka_linger_ms {said} KAFKA_LINGER_MS?",)
    for name in ("kafka_linger_ms", "KAFKA_LINGER_MS", "kafka.linger.ms"):
        row = Settings.read(MINIMAL).overlaid(
            json.dumps({name: 5, "kafka_note": {"mine": 1}, "kafka": {"linger.ms": 6}})
        )
        assert row.warnings == (f'metadatas.{name} {said} "kafka": {{"linger.ms": …}}?',)
    row = Settings.read(MINIMAL).overlaid('{"security.protocol": "SSL"}')
    assert row.warnings == (f'metadatas.security.protocol {said} "kafka": {{"security.protocol": …}}?',)


def test_a_name_of_the_users_own_that_begins_with_kafka_is_no_property_and_no_warning() -> None:
    """It was a warning, and who did as it said had a worker that Kafka's client refuses."""
    row = Settings.read(MINIMAL).overlaid('{"kafka_version": "3.5", "KAFKA_TEAM": "a", "ssl.note": "b"}')
    assert row.warnings == ()
    assert Settings.read({**MINIMAL, "Kafka_home": "/opt"}, {**OWN, "kafka_brokers": "b:9092"}).warnings == ()


@pytest.mark.parametrize("name", sorted(OFTEN_SET))
def test_what_is_taken_for_a_misspelled_property_is_one_of_the_clients(name: str) -> None:
    refusal = ""
    try:
        Producer({name: "probe", "log_level": 0})
    except KafkaException as error:
        refusal = error.args[0].str()
    assert "No such configuration property" not in refusal


@pytest.mark.parametrize("name", ["MESAGE_TIMEOUT", "PROCES_TIMEOUT", "message_timeout", "DB_PASWORD"])
def test_a_variable_that_is_nearly_a_setting_is_a_warning(name: str) -> None:
    (warning,) = Settings.read({**MINIMAL, name: "topsecret", "PATH": "/bin"}).warnings

    assert warning.startswith(f"{name} is not a setting and is ignored: did you mean ")


def test_a_variable_beside_the_setting_that_it_resembles_is_no_slip() -> None:
    assert not Settings.read({**MINIMAL, "HTTP_PORT": "8080", "HTTPS_PORT": "8443"}).warnings


def test_the_environment_wins_over_the_file_and_the_row_over_the_environment() -> None:
    settings = Settings.read({**MINIMAL, "MESSAGE_TIMEOUT": "30", "COMMIT_INTERVAL": "1"})
    settings = settings.overlaid('{"message_timeout": 5, "kafka": {"sasl.mechanism": "PLAIN"}}')

    assert (settings.message_timeout, settings.commit_interval) == (5.0, 1.0)
    assert settings.sources["MESSAGE_TIMEOUT"] == settings.sources["sasl.mechanism"] == "row"
    assert settings.sources["COMMIT_INTERVAL"] == "environment"
    assert settings.sources["DELIVERY"] == "default"


def test_a_variable_that_is_empty_counts_as_not_set() -> None:
    settings = Settings.read({**MINIMAL, "MESSAGE_TIMEOUT": "", "DATABASE_URL": "", "KAFKA_CLIENT_ID": ""})

    assert settings.message_timeout == 60
    assert settings.sources["MESSAGE_TIMEOUT"] == "default"
    assert settings.kafka == {}


def test_an_empty_password_is_a_password() -> None:
    assert Settings.read({**MINIMAL, "DB_PASSWORD": ""}).sources["DB_PASSWORD"] == "environment"


def test_a_setting_of_the_row_may_be_text_or_a_number() -> None:
    settings = Settings.read(MINIMAL).overlaid('{"message_timeout": "7", "max_pending_bytes": 1000}')

    assert (settings.message_timeout, settings.max_pending_bytes) == (7.0, 1000)


@pytest.mark.parametrize("metadatas", ["[1, 2]", '"a note"', "7", r'"{\"message_timeout\": 5, \"paused\": true}"'])
def test_metadatas_that_are_no_object_set_nothing_and_say_so(metadatas: str) -> None:
    """What is encoded twice is text: a pause in it did not hold, and `check` found all well."""
    settings = Settings.read(MINIMAL).overlaid(metadatas)

    assert replace(settings, warnings=()) == Settings.read(MINIMAL)
    assert settings.warnings == ("metadatas is JSON, but no object: it sets nothing. Was it encoded twice?",)


@pytest.mark.parametrize("metadatas", [None, "", "  ", "null", "{}", '{"kafka": null}'])
def test_metadatas_without_settings_change_nothing(metadatas: str | None) -> None:
    settings = Settings.read(MINIMAL)

    assert settings.overlaid(metadatas) == settings


def test_keys_of_the_users_own_are_left_alone() -> None:
    settings = Settings.read(MINIMAL).overlaid('{"db_host": "elsewhere", "owner": "team a", "limits": {"eur": 5}}')

    assert replace(settings, warnings=()) == Settings.read(MINIMAL)


def test_only_the_row_pauses_its_workers() -> None:
    assert not Settings.read({**MINIMAL, "PAUSED": "true"}).paused
    settings = Settings.read(MINIMAL).overlaid('{"paused": true}')
    assert settings.paused
    assert settings.differs_in_pause(Settings.read(MINIMAL))
    assert not settings.differs_in_pause(Settings.read(MINIMAL).overlaid('{"message_timeout": 5}'))
    assert problems_of_row('{"paused": "yes"}') == ["metadatas.paused must be true or false, not 'yes'"]


@pytest.mark.parametrize("key", ["message_timout", "MESSAGE_TIMEOUT", "commit_intervall", "Kafka", "pausd"])
def test_a_key_that_is_nearly_a_setting_is_a_warning(key: str) -> None:
    (warning,) = Settings.read(MINIMAL).overlaid(f'{{"{key}": 1}}').warnings

    assert f"metadatas.{key} " in warning
    assert "did you mean" in warning


@pytest.mark.parametrize("name", ["DB_PASSWORD", "DB_NAME", "KAFKA_SASL_PASSWORD", "CONSUMER_NAME"])
def test_what_is_no_text_is_refused_by_its_name_and_not_quoted(name: str) -> None:
    for value, wrong in (("s3cret\udcff", "is no text in UTF-8"), ("s3cret\0", "holds a NUL character")):
        problems = problems_of({**MINIMAL, name: value})
        assert f"{name} {wrong}" in problems
        assert "s3cret" not in str(problems) or "PASSWORD" not in name


def test_what_is_no_text_in_a_row_or_in_defaults_py_is_refused_by_its_key() -> None:
    for value, wrong in (("a\ud800", "is no text in UTF-8"), ("a\0", "holds a NUL character")):
        content = json.dumps({"group_instance_id": value})
        assert problems_of_row(content) == [f"metadatas.group_instance_id {wrong}"]
        with pytest.raises(ConfigError) as caught:
            Settings.read(MINIMAL, {"GROUP_INSTANCE_ID": value})
        assert caught.value.problems == [f"GROUP_INSTANCE_ID (in defaults.py) {wrong}"]


@pytest.mark.parametrize("content", [{"\ud800": "x"}, {"linger.ms": "5\udfff"}, {"client.id": "a\0b"}, {"a\0": 1}])
def test_a_property_that_is_no_text_is_refused(content: dict[str, object]) -> None:
    """The client ends the process by such a name: all workers of the row, again and again."""
    [problem] = problems_of_row(json.dumps({"kafka": content}))
    assert problem.startswith("metadatas.kafka.")
    assert problem.endswith(("is no text in UTF-8", "holds a NUL character"))
    assert problem.isascii()


def test_a_setting_that_a_row_cannot_have_is_a_warning() -> None:
    (warning,) = Settings.read(MINIMAL).overlaid('{"http_port": 1, "owner": "Zoe"}').warnings
    assert warning == "metadatas.http_port is ignored: a row cannot set HTTP_PORT"


def test_hardly_any_memory_is_a_warning_for_somebody_may_mean_megabytes() -> None:
    given = {"CONSUMER_NAME": "orders", "DATABASE_URL": "sqlite:///rows.db"}
    [warning] = Settings.read({**given, "MAX_PENDING_BYTES": "256"}).warnings
    assert warning.startswith("MAX_PENDING_BYTES is 256 bytes: hardly a message has room")
    [warning] = Settings.read(given).overlaid('{"max_pending_bytes": 8}').warnings
    assert warning.startswith("metadatas.max_pending_bytes is 8 bytes")
    assert Settings.read({**given, "MAX_PENDING_BYTES": "65536"}).warnings == ()


@pytest.mark.parametrize("path", ["/dev/stdin", "/dev/tty", "/proc/kmsg", "pipe", "link"])
def test_a_row_names_no_file_that_may_never_end(tmp_path: Path, path: str) -> None:
    """Who may write one row froze each worker of it, and `fleet`."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    (tmp_path / "ca.pem").touch()
    settings = Settings.read({"CONSUMER_NAME": "orders", "DATABASE_URL": "sqlite:///rows.db"})
    for good in ("ca.pem", "not there", ".", "x" * 300, "ca.pem/x"):
        settings.overlaid(json.dumps({"kafka": {"ssl.ca.location": str(tmp_path / good)}}))
    with pytest.raises(ConfigError, match=r"metadatas.kafka.ssl.ca.location must name a file or a directory, not '/"):
        settings.overlaid(json.dumps({"kafka": {"ssl.ca.location": str(tmp_path / path)}}))


def test_what_the_url_of_the_database_replaces_is_a_warning() -> None:
    """Most of all a password, which is missed by the server only."""
    given = {"CONSUMER_NAME": "x", "DATABASE_URL": "sqlite:////tmp/x.db"}
    assert not Settings.read({**given, "DB_SSL_CA": "", "DB_USER": ""}, {"DB_HOST": "h"}).warnings
    (warning,) = Settings.read({**given, "DB_PASSWORD": "secret"}).warnings
    assert warning == "DB_PASSWORD is ignored: DATABASE_URL is set"
    (warning,) = Settings.read({**given, "DB_PASSWORD": "secret", "DB_USER": "u"}).warnings
    assert warning == "DB_USER, DB_PASSWORD are ignored: DATABASE_URL is set"


def test_an_instance_id_in_the_row_is_a_warning_for_all_workers_would_have_the_same_one() -> None:
    settings = Settings.read({**MINIMAL, "GROUP_INSTANCE_ID": "pod-1"})
    (warning,) = settings.overlaid('{"group_instance_id": "one"}').warnings

    assert "set GROUP_INSTANCE_ID in the environment of each instead" in warning
    assert not settings.overlaid('{"group_instance_id": ""}').warnings


# ---------------------------------------------------------------- problems


def test_all_problems_are_named_at_once() -> None:
    problems = problems_of(
        {
            "CONSUMER_NAME": "two words",
            "DB_PORT": "udp://10.0.0.1:3306",
            "MESSAGE_TIMEOUT": "abc",
            "DELIVERY": "twice",
            "LOG_LEVEL": "loud",
            "KAFKA_GROUP_ID": "mine",
        }
    )

    assert [problem.split()[0] for problem in problems] == [
        "CONSUMER_NAME", "DB_PORT", "LOG_LEVEL", "MESSAGE_TIMEOUT", "DELIVERY", "KAFKA_GROUP_ID", "DB_NAME", "DB_USER",
    ]  # fmt: skip
    assert "MESSAGE_TIMEOUT must be a number of seconds above 0, not 'abc'" in problems


def test_all_problems_of_the_row_are_named_at_once_by_their_key() -> None:
    problems = problems_of_row('{"message_timeout": true, "delivery": "twice", "kafka": {"group.id": "x", "a": []}}')

    assert [problem.split()[0] for problem in problems] == [
        "metadatas.message_timeout", "metadatas.delivery", "metadatas.kafka.group.id", "metadatas.kafka.a",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["MESSAGE_TIMEOUT", "COMMIT_INTERVAL", "SHUTDOWN_TIMEOUT"])
@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "1e999", "60s", "1,5"])
def test_seconds_are_a_finite_number_above_0(name: str, value: str) -> None:
    assert problems_of({**MINIMAL, name: value}) == [f"{name} must be a number of seconds above 0, not '{value}'"]


@pytest.mark.parametrize("name", ["MESSAGE_TIMEOUT", "CONFIG_REFRESH"])
def test_no_clock_and_no_lock_need_to_take_more_seconds_than_they_can(name: str) -> None:
    (problem,) = problems_of({**MINIMAL, name: "1e10"})
    assert problem == f"{name} must be a number of seconds below 1e9, which are 31 years, not '1e10'"
    longest = Settings.read({**MINIMAL, name: "999999999"})
    threading.Lock().acquire(timeout=max(longest.message_timeout, longest.config_refresh))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DB_PORT", "0"),
        ("DB_PORT", "65536"),
        ("MAX_PENDING_BYTES", "1.5"),
        ("MAX_PENDING_BYTES", "7"),  # there were parts of it that came to 0
        ("CONCURRENCY", "0"),
    ],
)
def test_whole_numbers_have_limits(name: str, value: str) -> None:
    (problem,) = problems_of({**MINIMAL, name: value})

    assert problem.startswith(f"{name} must be a whole number")


def test_a_url_whose_port_cannot_be_is_refused_and_not_shown() -> None:
    """A worker waited for it for ever."""
    url = "mysql://u:topsecret@h:{}/d"
    assert Settings.read({**MINIMAL, "DATABASE_URL": url.format(65535)}).url().port == 65535
    assert problems_of({**MINIMAL, "DATABASE_URL": url.format(99999)}) == [
        "DATABASE_URL must be a URL whose port is at most 65535"
    ]


@pytest.mark.parametrize("name", ["", "a b", "a/b", "ä", "a" * 201, "a\nb"])
def test_a_consumer_name_that_cannot_name_a_group_and_topics_is_refused(name: str) -> None:
    (problem,) = problems_of({**MINIMAL, "CONSUMER_NAME": name})

    assert problem.startswith("CONSUMER_NAME must be")


def test_choices_are_read_in_any_case() -> None:
    settings = Settings.read({**MINIMAL, "LOG_LEVEL": "debug", "DELIVERY": "EXACTLY_ONCE"})

    assert (settings.log_level, settings.delivery) == ("DEBUG", "exactly_once")


@pytest.mark.parametrize(
    ("given", "level"), [("WARN", "WARNING"), ("warn", "WARNING"), ("Fatal", "CRITICAL"), ("warning", "WARNING")]
)
def test_levels_have_the_names_that_logging_gives_them(given: str, level: str) -> None:
    assert Settings.read({**MINIMAL, "LOG_LEVEL": given}).log_level == level
    assert Settings().overlaid(f'{{"log_level": "{given}"}}').log_level == level


def test_metadatas_that_are_not_json_are_a_problem() -> None:
    (problem,) = problems_of_row("{message_timeout: 5}")

    assert problem.startswith("metadatas must be JSON")


def test_metadatas_that_are_a_note_are_left_alone_with_a_warning() -> None:
    settings = Settings().overlaid("ask the team of payments")

    assert settings.warnings == ("metadatas is no JSON: it is taken for a note, and sets nothing",)


def test_metadatas_of_a_file_of_windows_are_read_without_its_byte_order_mark() -> None:
    settings = Settings().overlaid('\ufeff{"message_timeout": 5, "paused": true}')

    assert (settings.message_timeout, settings.paused, settings.warnings) == (5, True, ())


def test_json_that_is_nested_without_end_is_a_problem_and_no_crash() -> None:
    (problem,) = problems_of_row("[" * 100_000)

    assert problem.startswith("metadatas must be JSON")


# ---------------------------------------------------------------- the database


def test_any_character_may_be_in_a_password() -> None:
    settings = Settings.read({**MINIMAL, "DB_PASSWORD": SECRET})

    assert settings.url().password == SECRET
    assert settings.url().drivername == "mysql+pymysql"


def test_the_line_end_of_a_secret_that_was_read_from_a_file_is_no_part_of_it() -> None:
    assert Settings.read({**MINIMAL, "DB_PASSWORD": f"{SECRET}\n"}).db_password == SECRET


@pytest.mark.parametrize(
    ("given", "driver"),
    [
        ("mysql://u:p@h/d", "mysql+pymysql"),
        ("mariadb://u:p@h/d", "mysql+pymysql"),
        ("postgres://u:p@h/d", "postgresql+psycopg"),
        ("postgresql://u:p@h:5432/d?sslmode=require", "postgresql+psycopg"),
        ("mysql+mysqldb://u:p@h/d", "mysql+pymysql"),
        ("mariadb+mysqlconnector://u:p@h/d", "mysql+pymysql"),
        ("postgresql+psycopg2://u:p@h/d", "postgresql+psycopg"),
        ("sqlite:///rows.db", "sqlite"),
        ("sqlite+aiosqlite:///rows.db", "sqlite"),
    ],
)
def test_a_database_url_gets_the_driver_that_is_installed(given: str, driver: str) -> None:
    settings = Settings.read({"CONSUMER_NAME": "orders", "DATABASE_URL": given})

    assert settings.url().drivername == driver


@pytest.mark.parametrize(
    "url",
    [
        "topsecret",
        "oracle://u:topsecret@h/d",
        "mysql://u:topsecret@h:port/d",
        "mysql://u:p@topsecret@h/d",
        "mysql://u:topsecret@h",
        "sqlite://",
        "sqlite:///:memory:",
    ],
)
def test_a_bad_database_url_is_explained_and_never_shown(url: str) -> None:
    (problem,) = problems_of({"CONSUMER_NAME": "orders", "DATABASE_URL": url})

    assert problem.startswith("DATABASE_URL must be")
    assert "topsecret" not in problem


# ---------------------------------------------------------------- TLS to the database

FILES = {"DB_SSL_CA": "ca.pem", "DB_SSL_CERT": "cert.pem", "DB_SSL_KEY": "key.pem"}


@pytest.mark.parametrize("given", [MINIMAL, {"CONSUMER_NAME": "orders", "DATABASE_URL": "mysql://u:p@h/d"}])
def test_with_a_ca_the_certificate_of_mysql_and_its_name_are_verified(given: dict[str, str]) -> None:
    # Without `ssl_check_hostname` the driver compares names: test_database_tls.py tries it.
    expected = {"ssl_ca": "ca.pem", "ssl_cert": "cert.pem", "ssl_key": "key.pem"}
    assert Settings.read({**given, **FILES}).url().query == expected
    by_mode = Settings.read({**given, **FILES, "DB_SSL_MODE": "verify-ca"}).url().query
    assert by_mode == {**expected, "ssl_check_hostname": "false"}


@pytest.mark.parametrize(
    "given",
    [{**MINIMAL, "DB_DRIVER": "postgresql"}, {"CONSUMER_NAME": "orders", "DATABASE_URL": "postgresql://u:p@h/d"}],
)
def test_with_a_ca_the_certificate_of_postgresql_and_its_name_are_verified(given: dict[str, str]) -> None:
    expected = {"sslrootcert": "ca.pem", "sslcert": "cert.pem", "sslkey": "key.pem"}
    assert Settings.read({**given, **FILES}).url().query == {"sslmode": "verify-full", **expected}
    assert Settings.read({**given, **FILES, "DB_SSL_MODE": "verify-ca"}).url().query["sslmode"] == "verify-ca"
    assert Settings.read({**given, "DB_SSL_MODE": "require"}).url().query == {"sslmode": "require"}


def trusting(monkeypatch: pytest.MonkeyPatch, file: Path | None, directory: str = "", own: str = "/no/certs") -> None:
    """Where Python's ssl finds certificates: a file and a directory that are there, and OpenSSL's own directory."""
    paths: Any = str(file) if file else None, directory or None, "SSL_CERT_FILE", "/no/cert.pem", "SSL_CERT_DIR", own
    monkeypatch.setattr("ssl.get_default_verify_paths", lambda: ssl.DefaultVerifyPaths(*paths))


OF_POSTGRESQL = {**MINIMAL, "DB_DRIVER": "postgresql", "DB_SSL_CA": "system"}


@pytest.mark.parametrize(
    "given",
    [
        OF_POSTGRESQL,
        {"CONSUMER_NAME": "orders", "DATABASE_URL": "postgresql://u:p@h/d", "DB_SSL_CA": "system"},
        {"CONSUMER_NAME": "orders", "DATABASE_URL": "postgresql://u:p@h/d?sslrootcert=system"},
        {"CONSUMER_NAME": "orders", "DATABASE_URL": "postgresql://u:p@h/d?sslmode=verify-full&sslrootcert=system"},
    ],
)
def test_postgresql_is_given_the_file_of_those_whom_the_machine_trusts(
    given: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It was given `system`, with which psycopg[binary] looks in a directory that no machine has."""
    trusting(monkeypatch, tmp_path / "cas.pem")
    expected = {"sslmode": "verify-full", "sslrootcert": f"{tmp_path}/cas.pem"}
    assert Settings.read(given).url().query == expected


def test_where_python_knows_a_directory_only_postgresql_is_given_the_file_that_is_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trusting(monkeypatch, None, "/usr/lib/ssl/certs", "/usr/lib/ssl/certs")
    bundles = tmp_path / "debian.crt", tmp_path / "redhat.crt"
    monkeypatch.setattr("config._BUNDLES", tuple(map(str, bundles)))
    assert Settings.read(OF_POSTGRESQL).url().query["sslrootcert"] == "system"
    bundles[1].touch()
    assert Settings.read(OF_POSTGRESQL).url().query["sslrootcert"] == str(bundles[1])
    mysql = Settings.read({**MINIMAL, "DB_SSL_CA": "system"}).url().query
    assert mysql == {"ssl_capath": "/usr/lib/ssl/certs"}
    trusting(monkeypatch, None)
    assert Settings.read({**MINIMAL, "DB_SSL_CA": "system"}).url().query == {"ssl_capath": "/no/certs"}


def test_a_directory_of_the_environment_is_looked_into_by_the_driver_of_postgresql_itself(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trusting(monkeypatch, tmp_path / "cas.pem", str(tmp_path))
    assert Settings.read(OF_POSTGRESQL).url().query["sslrootcert"] == "system"


def test_with_a_weaker_mode_in_the_url_the_driver_of_postgresql_refuses_those_of_the_system(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trusting(monkeypatch, tmp_path / "cas.pem")
    url = "postgresql://u:p@h/d?sslmode=require&sslrootcert=system"
    query = Settings.read({"CONSUMER_NAME": "orders", "DATABASE_URL": url}).url().query
    assert query == {"sslmode": "require", "sslrootcert": "system"}


def test_tls_can_be_turned_off() -> None:
    off = {**MINIMAL, "DB_SSL_MODE": "disable"}
    assert Settings.read(off).url().query == {"ssl_disabled": "true"}
    assert Settings.read({**off, "DB_DRIVER": "postgresql"}).url().query == {"sslmode": "disable"}
    assert not Settings.read({**off, "DATABASE_URL": "sqlite:////rows.db"}).url().query


def test_without_any_of_them_the_driver_decides() -> None:
    assert not Settings.read(MINIMAL).url().query
    assert not Settings.read({**MINIMAL, "DB_DRIVER": "postgresql"}).url().query
    sqlite = {"CONSUMER_NAME": "orders", "DATABASE_URL": "sqlite:///rows.db", **FILES}
    assert not Settings.read(sqlite).url().query


def test_postgresql_has_a_port_of_its_own_unless_one_is_named() -> None:
    postgresql = {**MINIMAL, "DB_DRIVER": "postgresql"}

    assert Settings.read(MINIMAL).url().port == 3306
    assert Settings.read(postgresql).url().render_as_string() == "postgresql+psycopg://worker:***@localhost:5432/app"
    assert Settings.read(postgresql, {"DB_PORT": 3306}).url().port == 5432  # as defaults.py comes
    assert Settings.read({**postgresql, "DB_PORT": "3306"}).url().port == 3306


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"DB_SSL_CERT": "cert.pem"}, "DB_SSL_CERT and DB_SSL_KEY must be set both, or neither"),
        ({"DB_SSL_MODE": "verify-full"}, "DB_SSL_CA must be set where DB_SSL_MODE is verify-full: a file, or system"),
        ({"DB_SSL_CA": "a", "DB_SSL_MODE": "require"}, "DB_SSL_MODE must not be require where DB_SSL_CA is set"),
        (
            {"DB_SSL_CA": "a", "DB_SSL_MODE": "disable"},
            "DB_SSL_MODE must not be disable where DB_SSL_CA or DB_SSL_CERT",
        ),
        (
            {"DB_SSL_CERT": "a", "DB_SSL_KEY": "b", "DB_SSL_MODE": "disable"},
            "DB_SSL_MODE must not be disable where DB_SSL_CA or DB_SSL_CERT is set: keep one of the two",
        ),
        (
            {"DB_SSL_CA": "a", "DATABASE_URL": "mysql://u:p@h/d?ssl_ca=b"},
            "DATABASE_URL must not have ssl_ca where DB_SSL_… are set: keep one of the two",
        ),
    ],
)
def test_what_contradicts_itself_about_tls_is_refused(given: dict[str, str], says: str) -> None:
    (problem,) = problems_of({**MINIMAL, **given})

    assert problem.startswith(says)


# ---------------------------------------------------------------- secrets


def test_secrets_are_shown_nowhere() -> None:
    settings = Settings.read(
        {
            **MINIMAL,
            "DB_PASSWORD": SECRET,
            "DATABASE_URL": "postgresql://u:topsecret@h/d?password=topsecret&sslmode=require",
            "KAFKA_SASL_PASSWORD": "topsecret",
            "KAFKA_SASL_JAAS_CONFIG": "topsecret",
            "KAFKA_SSL_KEY_PEM": "topsecret",
            "KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET": "topsecret",
            "KAFKA_SASL_USERNAME": "bob",
        }
    )
    shown = f"{settings!r} {settings.public()}"

    assert "topsecret" not in shown
    assert SECRET not in shown
    assert settings.public()["sasl.username"] == "bob"
    assert settings.public()["DATABASE_URL"] == "postgresql+psycopg://u:***@h/d?password=hidden&sslmode=require"


@pytest.mark.parametrize("name", ["DB_HOST", "DB_NAME", "DB_USER"])
@pytest.mark.parametrize("url", ["mysql://bob:topsecret@h/d", "mysql://h/d", "postgresql://bob:to/p@topsecret@h:5432"])
def test_a_whole_url_in_a_part_of_it_is_refused_without_its_password(name: str, url: str) -> None:
    """The worker tried to reach a host of that name, and logged it over and over."""
    (problem,) = problems_of({**MINIMAL, name: url})

    assert problem.startswith(f"{name} must be one line of text, and no URL (that goes into DATABASE_URL), not '")
    assert "secret" not in problem


def test_a_login_before_a_host_is_refused_and_not_shown() -> None:
    assert problems_of({**MINIMAL, "DB_HOST": "bob:topsecret@h"})[0].endswith("not '***@h'")
    assert problems_of({**MINIMAL, "HTTP_PORT": "tcp://bob:topsecret@h"})[0].endswith("not '***@h'")


@pytest.mark.parametrize("host", ["db.example", "10.0.0.1", "::1", "/var/run/postgresql", "a,b", "fe80::1%eth0"])
def test_what_is_a_host_of_a_database_is_taken(host: str) -> None:
    assert Settings.read({**MINIMAL, "DB_HOST": host, "DB_USER": "bob@server"}).url().host == host


def test_a_secret_may_be_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "db").write_text(f"{SECRET}\n")
    (tmp_path / "kafka").write_text("topsecret\r\n")
    files = {"DB_PASSWORD_FILE": f"{tmp_path}/db", "KAFKA_SASL_PASSWORD_FILE": f"{tmp_path}/kafka"}
    settings = Settings.read({**MINIMAL, **files})

    assert settings.url().password == SECRET
    assert settings.kafka == {"sasl.password": "topsecret"}
    assert settings.sources["DB_PASSWORD"] == settings.sources["sasl.password"] == "environment"
    assert "topsecret" not in f"{settings!r} {settings.public()}"


def test_the_byte_order_mark_of_a_file_of_windows_is_no_part_of_a_secret(tmp_path: Path) -> None:
    (tmp_path / "db").write_text(f"{SECRET}\r\n", encoding="utf-8-sig")

    assert Settings.read({**MINIMAL, "DB_PASSWORD_FILE": f"{tmp_path}/db"}).db_password == SECRET


def test_a_url_with_a_password_in_it_may_be_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("mysql://u:topsecret@h/d\n")
    settings = Settings.read({"CONSUMER_NAME": "orders", "DATABASE_URL_FILE": f"{tmp_path}/url"})

    assert settings.url().password == "topsecret"


def test_defaults_py_may_name_a_file_and_the_environment_wins_over_it(tmp_path: Path) -> None:
    (tmp_path / "db").write_text(SECRET)
    own = {**OWN, "DB_PASSWORD": "", "DB_PASSWORD_FILE": f"{tmp_path}/db"}

    assert Settings.read({}, own).db_password == SECRET
    assert Settings.read({}, own).sources["DB_PASSWORD"] == "defaults.py"
    gone = {**own, "DB_PASSWORD_FILE": "/no/file"}
    assert Settings.read({"DB_PASSWORD": "topsecret"}, gone).db_password == "topsecret"
    assert Settings.read({"DB_PASSWORD_FILE": f"{tmp_path}/db"}, {**OWN, "DB_PASSWORD": "old"}).db_password == SECRET


def test_a_secret_that_is_given_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "db").write_text("topsecret")
    (problem,) = problems_of({**MINIMAL, "DB_PASSWORD": SECRET, "DB_PASSWORD_FILE": f"{tmp_path}/db"})

    assert problem == "DB_PASSWORD and DB_PASSWORD_FILE are both set: keep one"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"topsecret\xff", "is no text in UTF-8"),
        (b"topsecret" * 10_000, "is too large for a secret"),
    ],
)
@pytest.mark.parametrize("name", ["DB_PASSWORD_FILE", "DATABASE_URL_FILE", "KAFKA_SASL_PASSWORD_FILE"])
def test_a_file_that_holds_no_secret_is_named_and_its_content_is_not(
    name: str, content: bytes | None, says: str, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)
    environ = {**MINIMAL, name: str(file)}
    problems = problems_of(
        {key: value for key, value in environ.items() if name[:9] != "DATABASE_" or key[:3] != "DB_"}
    )

    assert problems == [f"{name} names '{file}', which {says}"]


@pytest.mark.parametrize("secret", ["topsecret", "q8Zk/Wv2+Top", "/q8Zk/Wv2+Top=="])
def test_a_secret_in_place_of_the_name_of_its_file_is_not_shown(secret: str) -> None:
    (problem,) = problems_of({**MINIMAL, "DB_PASSWORD_FILE": secret})

    assert problem == "DB_PASSWORD_FILE names a file, which cannot be read: No such file or directory"


_KEY = f"-----BEGIN PRIVATE KEY-----\n{'MIGHAgEAMBMGByqGSM49topsecret' * 5}\n-----END PRIVATE KEY-----\n"
KEYS = {
    "PEM": _KEY,
    "on one line": _KEY.replace("\n", " "),
    "in base64": b64encode(_KEY.encode()).decode(),
    "without its first line": _KEY.splitlines()[1],
    "of Ed25519, without its first line": "MC4CAQAwBQYDK2VwBCIEIJ+DYvh6SEqVTm50DFtMDoQikTmiCqirVv9mWG9qfSnF",
}


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
@pytest.mark.parametrize(
    "name", ["DB_SSL_KEY", "DB_SSL_CA", "KAFKA_SSL_KEY_LOCATION", "KAFKA_SSL_KEYSTORE_LOCATION", "LOG_LEVEL"]
)
def test_a_key_in_place_of_the_name_of_its_file_is_not_shown(name: str, key: str) -> None:
    problems = problems_of({**MINIMAL, "DB_SSL_CERT": "/no/cert", "DB_SSL_KEY": "/no/key", name: key})

    (problem,) = [each for each in problems if " both, or neither" not in each]
    assert problem.startswith(f"{name} must be ")
    hint = " (that goes into KAFKA_SSL_KEY_PEM)" if name == "KAFKA_SSL_KEY_LOCATION" else ""
    assert problem.endswith(f", not a key or a certificate{hint}")


def test_a_key_in_a_row_in_place_of_the_name_of_its_file_is_not_shown() -> None:
    with pytest.raises(ConfigError) as raised:
        Settings.read(MINIMAL).overlaid(json.dumps({"kafka": {"ssl.certificate.location": _KEY}}))

    cure = "the name of a file, not a key or a certificate (that goes into KAFKA_SSL_CERTIFICATE_PEM)"
    assert raised.value.problems == [f"metadatas.kafka.ssl.certificate.location must be {cure}"]


def test_a_url_in_a_file_that_is_no_url_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("topsecret")
    (problem,) = problems_of({"CONSUMER_NAME": "orders", "DATABASE_URL_FILE": f"{tmp_path}/url"})

    assert problem.startswith("DATABASE_URL must be a URL")
    assert "topsecret" not in problem


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_names_who_should(tmp_path: Path) -> None:
    (tmp_path / "db").write_text("topsecret")
    (tmp_path / "db").chmod(0)
    (problem,) = problems_of({**MINIMAL, "DB_PASSWORD_FILE": f"{tmp_path}/db"})

    assert problem.endswith(f"which cannot be read: Permission denied; let user {os.geteuid()} read it")


def test_what_is_no_secret_comes_from_no_file_and_a_property_of_that_name_is_left_alone(tmp_path: Path) -> None:
    environ = {
        **MINIMAL,
        "LOG_LEVEL_FILE": "/no/file",
        "DB_PASSWORD_FILE": "",
        "KAFKA_SASL_OAUTHBEARER_ASSERTION_FILE": "/no/a",
    }

    assert Settings.read(environ).kafka == {"sasl.oauthbearer.assertion.file": "/no/a"}


def test_a_row_names_no_file_of_the_worker_s_machine(tmp_path: Path) -> None:
    (tmp_path / "kafka").write_text("topsecret")
    metadatas = f'{{"kafka": {{"sasl.password.file": "{tmp_path}/kafka"}}}}'

    assert Settings.read(MINIMAL).overlaid(metadatas).kafka == {"sasl.password.file": f"{tmp_path}/kafka"}


def test_the_public_view_names_every_setting() -> None:
    names = {each.name.upper() for each in dataclasses.fields(Settings) if "parse" in each.metadata}

    assert set(Settings.read(MINIMAL).public()) == names == set(Settings.read(MINIMAL).sources)


# ---------------------------------------------------------------- Kafka's properties


def test_a_kafka_variable_is_a_property_with_dots() -> None:
    settings = Settings.read({**MINIMAL, "KAFKA_SASL_MECHANISM": "PLAIN", "KAFKA_SECURITY_PROTOCOL": "SASL_SSL"})

    assert settings.kafka == {"sasl.mechanism": "PLAIN", "security.protocol": "SASL_SSL"}


def test_the_kafka_object_of_the_row_wins_and_becomes_text() -> None:
    settings = Settings.read({**MINIMAL, "KAFKA_LINGER_MS": "5", "KAFKA_CLIENT_RACK": "a"})
    settings = settings.overlaid('{"kafka": {"linger.ms": 20, "enable.metrics.push": false, "client_rack": "b"}}')

    assert settings.kafka == {"linger.ms": "20", "client.rack": "b", "enable.metrics.push": "false"}
    assert settings.overlaid('{"kafka": {"message.max.bytes": 2e6}}').kafka["message.max.bytes"] == "2000000"
    assert settings.overlaid('{"kafka": {"sasl.password": "secret\\n"}}').kafka["sasl.password"] == "secret"


def test_a_value_of_ones_own_with_a_name_of_kafkas_is_told_that_it_stands_in_defaults_py_and_needs_another() -> None:
    """A config.py that was written by hand has such names, and its values move into defaults.py."""
    with pytest.raises(ConfigError) as caught:
        Settings.read({}, {**OWN, "KAFKA_GROUP_ID": "mine", "KAFKA_CONFIG": {"acks": "all"}})
    group, config = caught.value.problems
    assert group.startswith("KAFKA_GROUP_ID (in defaults.py) must not be set: ")
    assert config.startswith("KAFKA_CONFIG (in defaults.py) must be text, a number, true or false: ")
    assert config.endswith("give a value of yours another name")
    [of_row] = problems_of_row('{"kafka": {"ssl": {}}}')
    assert of_row == "metadatas.kafka.ssl must be text, a number, true or false"


@pytest.mark.parametrize("name", sorted(OWNED_PROPERTIES | {"error.cb", "stats.cb"}))
def test_a_property_that_the_worker_owns_is_refused_in_the_row_and_in_the_environment(name: str) -> None:
    assert problems_of_row(f'{{"kafka": {{"{name}": "x"}}}}')[0].startswith(f"metadatas.kafka.{name} must not be set")
    variable = f"KAFKA_{name.replace('.', '_').upper()}"
    if variable != "KAFKA_BOOTSTRAP_SERVERS":
        assert problems_of({**MINIMAL, variable: "x"})[0].startswith(f"{variable} must not be set")


BARRED = """
    Plugin_Library_Paths plugin.library.paths ssl.engine.location ssl.engine.id ssl.providers
    sasl.kerberos.kinit.cmd sasl.kerberos.principal sasl.kerberos.keytab
    sasl.oauthbearer.assertion.file sasl.oauthbearer.assertion.private.key.file
    sasl.oauthbearer.assertion.jwt.template.file sasl.oauthbearer.metadata.authentication.type
""".split()  # noqa: SIM905


@pytest.mark.parametrize("name", BARRED)
def test_a_property_that_runs_code_or_sends_a_file_is_the_environments_alone(name: str) -> None:
    assert "it runs code" in problems_of_row(json.dumps({"kafka": {name: "/tmp/evil.so"}}))[0]
    variable = f"KAFKA_{name.replace('.', '_').upper()}"
    assert Settings.read({**MINIMAL, variable: "x"}).kafka == {name.replace("_", ".").lower(): "x"}


def test_brokers_in_the_environment_are_ignored_with_a_warning() -> None:
    settings = Settings.read({**MINIMAL, "KAFKA_BOOTSTRAP_SERVERS": "elsewhere:9092"})

    assert settings.kafka == {}
    assert settings.warnings[0].startswith("KAFKA_BOOTSTRAP_SERVERS is ignored")


@pytest.mark.parametrize(
    "name",
    [
        "KAFKA_SERVICE_HOST",
        "KAFKA_SERVICE_PORT",
        "KAFKA_SERVICE_PORT_CLIENTS",
        "KAFKA_PORT",
        "KAFKA_PORT_9092_TCP",
        "KAFKA_PORT_9092_TCP_ADDR",
        "KAFKA_BROKER_SERVICE_HOST",
        "KAFKA_HOME",
        "KAFKA_OPTS",
        "KAFKA_HEAP_OPTS",
        "KAFKA_JVM_PERFORMANCE_OPTS",
    ],
)
def test_what_kubernetes_and_kafkas_own_tools_have_in_the_environment_is_no_property(name: str) -> None:
    """`run` ended with 78 in a shell that was set up for kafka-topics.sh."""
    assert Settings.read({**MINIMAL, name: "tcp://10.0.0.1:9092"}).kafka == {}
