"""Where the programs keep what they compile."""

import jax
import pytest

from experiments import command_line
from experiments.machine.compilation_cache import VARIABLE, use_compilation_cache


@pytest.fixture
def asked(monkeypatch):
    """What jax is asked for, without asking it."""
    asked = {}
    monkeypatch.setattr(jax.config, "update", asked.__setitem__)
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    return asked


def test_cache_is_in_the_users_home(asked, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    use_compilation_cache()
    assert asked == {"jax_compilation_cache_dir": str(tmp_path / ".cache" / "nvpjax")}
    assert (tmp_path / ".cache" / "nvpjax").is_dir()


@pytest.mark.parametrize("word", ["elsewhere", ""])
def test_users_word_goes_before(asked, monkeypatch, word):
    monkeypatch.setenv(VARIABLE, word)
    use_compilation_cache()
    assert asked == {}


def test_home_that_cannot_be_written_is_no_error(asked, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    use_compilation_cache()
    assert asked == {}


def test_programs_that_time_compilation_use_no_cache(asked, monkeypatch):
    monkeypatch.setenv(VARIABLE, "elsewhere")
    command_line.run(lambda arguments: None, [], compile_anew=True)
    assert asked == {"jax_enable_compilation_cache": False}
