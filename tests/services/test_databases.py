"""The databases that the other tests trust: real, empty, and each test's own."""

import pytest
from sqlalchemy import create_engine, inspect, text


@pytest.mark.parametrize("run", [1, 2])
def test_each_test_gets_an_empty_database_that_it_may_write(database_url: str, run: int) -> None:
    engine = create_engine(database_url)
    try:
        assert inspect(engine).get_table_names() == []
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE kept (name VARCHAR(20))"))
            connection.execute(text("INSERT INTO kept VALUES ('zwölf')"))
        with engine.connect() as connection:
            assert connection.scalar(text("SELECT name FROM kept")) == "zwölf"
    finally:
        engine.dispose()


def test_mariadb_asks_for_the_password(mariadb_url: str) -> None:
    engine = create_engine(mariadb_url.replace("only-for-tests", "wrong"))
    with pytest.raises(Exception, match="Access denied"):
        engine.connect()
