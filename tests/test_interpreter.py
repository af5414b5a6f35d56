from deploy.interpreter import note


def test_a_python_that_was_built_without_optimization_is_told() -> None:
    assert "--enable-optimizations" in note("/root/.pyenv/versions/3.11.7", "'--enable-shared'")


def test_an_optimized_one_and_that_of_a_distribution_are_not() -> None:
    assert note("/usr/local", "'--enable-loadable-sqlite-extensions' '--enable-optimizations' '--with-lto'") == ""
    assert note("/usr", "'--enable-shared' '--prefix=/usr'") == ""
