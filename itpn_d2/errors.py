"""Errors that a user can correct, and how a command ends with one."""

import argparse
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .addresses import masked

EXIT_CODE = 2  # of every command that ends with a user error, as argparse has it


def printable(text: str) -> str:
    """The text in a form that any file and terminal accepts: characters that UTF-8 lacks, from names in other
    encodings, become escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


class UseError(ValueError):
    """An error that a user can correct; the message names the file or key, the reason and the remedy."""

    def __init__(self, *arguments: Any):
        super().__init__(*(printable(a) if isinstance(a, str) else a for a in arguments))


class ConfigError(UseError):
    """A config file, an override or an argument can't be used."""


class DatasetError(UseError):
    """A dataset can't be used; the message names the file and the record."""


class CheckpointError(UseError):
    """A checkpoint can't be used; the message names the file."""


class ZooError(CheckpointError):
    """No such entry in the model zoo, no weights for it, or a file that can't be fetched."""


class UnknownModelError(ZooError, RuntimeError):
    """No model of that name, or no weights for it; also a RuntimeError, as in Detectron2's model zoo."""


class DivergenceError(UseError, FloatingPointError):
    """A loss is not finite; the message names the setting that helps."""


class OutputError(UseError):
    """A file can't be written: a full disk, a missing permission, a folder in its place."""


def add_debug(parser: argparse.ArgumentParser) -> None:
    """Give a command ``--debug``, which :func:`errors_of_use` understands."""
    parser.add_argument(
        "--debug", action="store_true", help="show the traceback of an error instead of only its message"
    )


@contextmanager
def config_errors(section: str = "") -> Iterator[None]:
    """Within it, a ``ValueError`` or ``KeyError`` of a part that is built from what a user gave becomes a
    :class:`ConfigError`, which begins with the ``section`` of the config."""
    try:
        yield
    except UseError:
        raise
    except (ValueError, KeyError) as error:
        message = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
        raise ConfigError(f"{section}: {message}" if section else message) from error


class ExitCode(int):
    """:data:`EXIT_CODE`, whose text is the message: a caller in the same process, such as a notebook, shows
    it for a ``SystemExit``."""

    def __new__(cls, message: str) -> "ExitCode":
        """The exit code of a user error, with ``message`` as its text."""
        code = super().__new__(cls, EXIT_CODE)
        code.message = message
        return code

    message: str

    def __str__(self) -> str:
        return self.message


@contextmanager
def errors_of_use(debug: bool = False) -> Iterator[None]:
    """Within it, a :class:`UseError` ends the program with its message and exit code 2.

    Args:
        debug: let the error pass, so that Python prints its traceback.
    """
    try:
        yield
    except UseError as error:
        if debug:
            raise
        message = masked(f"{type(error).__name__}: {error}")
        print(message, file=sys.stderr)
        sys.exit(ExitCode(message))


def where_it_failed(error: BaseException) -> str:
    """The error that a program of the user raised, on one line, with its file and line number."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:500]
    return f"{reason} ({frame.filename}:{frame.lineno})"
