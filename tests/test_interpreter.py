import os
import sys
from pathlib import Path

import pytest

from deploy.interpreter import better, note


def test_a_python_that_was_built_without_optimization_is_told() -> None:
    assert "--enable-optimizations" in note("/root/.pyenv/versions/3.11.7", "'--enable-shared'")


def test_an_optimized_one_and_that_of_a_distribution_are_not() -> None:
    assert note("/usr/local", "'--enable-loadable-sqlite-extensions' '--enable-optimizations' '--with-lto'") == ""
    assert note("/usr", "'--enable-shared' '--prefix=/usr'") == ""


def test_an_optimized_python_of_the_same_version_is_taken_instead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of those in PATH: not one that is not optimized either, and not one that makes no environments."""
    is_well = "echo /usr --prefix=/usr"
    without_ensurepip = f'{is_well}; case "$2" in *ensurepip*) exit 1; esac'
    answers = {"not": "echo /home/pyenv --prefix=/home/pyenv", "cannot": without_ensurepip, "is": is_well}
    for name, answer in answers.items():
        python = tmp_path / name / f"python{sys.version_info.major}.{sys.version_info.minor}"
        python.parent.mkdir()
        python.write_text(f"#!/bin/sh\n{answer}\n")
        python.chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join(str(tmp_path / name) for name in ("none", *answers)))
    monkeypatch.setattr(sys, "base_prefix", "/home/pyenv")
    monkeypatch.setattr("sysconfig.get_config_var", lambda _name: "--prefix=/home/pyenv")
    assert better() == str(tmp_path / f"is/python3.{sys.version_info.minor}")
    monkeypatch.setattr(sys, "base_prefix", "/usr")
    assert better() == "", "this one is well"
