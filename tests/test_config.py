"""Settings: three layers, every problem named at once, secrets never shown."""

import dataclasses

import pytest

from config import OWNED_PROPERTIES, ConfigError, Settings

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


def test_kafka_properties_may_stand_in_defaults_py() -> None:
    own = {**OWN, "KAFKA_LINGER_MS": 5, "KAFKA_CLIENT_RACK": "a", "KAFKA_ENABLE_METRICS_PUSH": False}
    settings = Settings.read({"KAFKA_CLIENT_RACK": "b"}, own)

    assert settings.kafka == {"linger.ms": "5", "client.rack": "b", "enable.metrics.push": "false"}
    assert (settings.sources["linger.ms"], settings.sources["client.rack"]) == ("defaults.py", "environment")


@pytest.mark.parametrize("name", ["MESSAGE_TIMOUT", "message_timeout", "COMMIT_INTERVALL"])
def test_a_name_in_defaults_py_that_is_nearly_a_setting_is_a_warning(name: str) -> None:
    (warning,) = Settings.read({}, {**OWN, name: 1, "__doc__": "…", "API_URL": "http://api"}).warnings

    assert warning.startswith(f"defaults.py: {name} is not a setting and is ignored: did you mean ")


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


@pytest.mark.parametrize("metadatas", [None, "", "  ", "[1, 2]", '"a note"', "7", "null", '{"kafka": null}'])
def test_metadatas_without_settings_change_nothing(metadatas: str | None) -> None:
    settings = Settings.read(MINIMAL)

    assert settings.overlaid(metadatas) == settings


def test_keys_of_the_users_own_are_left_alone() -> None:
    settings = Settings.read(MINIMAL).overlaid('{"db_host": "elsewhere", "owner": "team a", "limits": {"eur": 5}}')

    assert settings == Settings.read(MINIMAL)


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
            "DB_PORT": "tcp://10.0.0.1:3306",
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


@pytest.mark.parametrize(
    ("name", "value"), [("DB_PORT", "0"), ("DB_PORT", "65536"), ("MAX_PENDING_BYTES", "1.5"), ("CONCURRENCY", "0")]
)
def test_whole_numbers_have_limits(name: str, value: str) -> None:
    (problem,) = problems_of({**MINIMAL, name: value})

    assert problem.startswith(f"{name} must be a whole number")


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
        ("mysql+mysqldb://u:p@h/d", "mysql+mysqldb"),
        ("sqlite:///rows.db", "sqlite"),
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


@pytest.mark.parametrize("name", sorted(OWNED_PROPERTIES | {"error.cb", "stats.cb"}))
def test_a_property_that_the_worker_owns_is_refused_in_the_row_and_in_the_environment(name: str) -> None:
    assert problems_of_row(f'{{"kafka": {{"{name}": "x"}}}}')[0].startswith(f"metadatas.kafka.{name} must not be set")
    variable = f"KAFKA_{name.replace('.', '_').upper()}"
    if variable != "KAFKA_BOOTSTRAP_SERVERS":
        assert problems_of({**MINIMAL, variable: "x"})[0].startswith(f"{variable} must not be set")


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
    ],
)
def test_what_kubernetes_puts_beside_a_service_named_kafka_is_no_property(name: str) -> None:
    assert Settings.read({**MINIMAL, name: "tcp://10.0.0.1:9092"}).kafka == {}
