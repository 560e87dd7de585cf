"""How a command ends with a user error."""

import argparse

import pytest

from itpn_d2.errors import (
    CheckpointError,
    ConfigError,
    DatasetError,
    OutputError,
    UseError,
    ZooError,
    add_debug,
    config_errors,
    errors_of_use,
)


@pytest.mark.parametrize("kind", [CheckpointError, ConfigError, DatasetError, OutputError, ZooError])
def test_a_message_and_exit_code_2(kind, capsys):
    assert issubclass(kind, UseError)
    with pytest.raises(SystemExit) as ended, errors_of_use():
        raise kind("a.pth: no such file; give one that exists")
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"{kind.__name__}: a.pth: no such file; give one that exists\n"


def test_debug_shows_the_traceback():
    parser = argparse.ArgumentParser()
    add_debug(parser)
    assert parser.parse_args([]).debug is False
    with pytest.raises(ConfigError), errors_of_use(parser.parse_args(["--debug"]).debug):
        raise ConfigError("x")


def test_other_errors_are_not_hidden():
    with pytest.raises(RuntimeError), errors_of_use():
        raise RuntimeError("a fault of ours")


@pytest.mark.parametrize("error", [ValueError("keep 2: choose 0 to 1"), KeyError("keep 2: choose 0 to 1")])
def test_errors_of_constructors_name_their_section(error):
    expected = r"^model\.backbone: keep 2: choose 0 to 1$"
    with pytest.raises(ConfigError, match=expected), config_errors("model.backbone"):
        raise error


def test_named_errors_pass_through_unchanged():
    with pytest.raises(DatasetError, match="^a$"), config_errors("model"):
        raise DatasetError("a")


def test_messages_fit_into_utf_8():
    """File names in other encodings reach logs, terminals and files as escapes."""
    error = DatasetError("a\udcff.png: it can't be read")
    assert str(error) == "a\\udcff.png: it can't be read" and str(error).encode("utf-8")
