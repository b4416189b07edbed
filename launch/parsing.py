"""Read the flags of a command line, as every script does; a mistake is answered with the nearest right thing."""

import difflib
import math
import os
import pathlib
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from launch import start

from absl import flags

HELP = {"--help", "-h", "--helpfull", "--helpshort"}
BYTE_ORDER_MARK = "\ufeff"  # with which some editors begin a file


class _WholeNumber(flags.IntegerParser):
    """A parser of whole numbers that also takes 1e6."""

    def convert(self, argument):
        try:
            number = super().convert(argument)
        except ValueError:
            number = self._convert_float(argument)
        if abs(number) >= 2**63:
            raise ValueError("expected a whole number below 2**63")
        return number

    def _convert_float(self, argument):
        try:
            number = float(argument)
        except ValueError:
            number = math.nan
        if not abs(number) <= 2**53 or number % 1:  # Above, a float is no exact count.
            raise ValueError("expected a whole number, such as 1000000, 1_000_000 or 1e6")
        return int(number)


def define_integer(name: str, default: int | None, help: str, lower_bound: int | None, upper_bound: int | None = None,
                   **where: Any) -> None:
    """Define a flag of whole numbers, as flags.DEFINE_integer does; it also takes 1e6."""
    parser = _WholeNumber(lower_bound, upper_bound)
    flags.DEFINE(parser, name, default, help, serializer=flags.ArgumentSerializer(), **where)


class _TableParser(flags.EnumParser):
    """A parser of names in a table, which also takes `module:name` of a user's own."""

    def parse(self, argument):
        return argument if re.fullmatch(r"[\w.]+:\w+", argument) else super().parse(argument)


def define_row(name: str, default: str, table: Iterable[str], help: str, **where: Any) -> None:
    """Define a flag of the names in a table of choices.py, and of `module:name`."""
    parser = _TableParser(list(table), case_sensitive=False)
    help = f"<{'|'.join(parser.enum_values)}|yours, module:name>: {help}"
    flags.DEFINE(parser, name, default, help, serializer=flags.ArgumentSerializer(), **where)


def define_enum(name: str, default: str | None, values: Iterable[str], help: str, **where: Any) -> None:
    """Define a flag of several values, as flags.DEFINE_enum does; upper and lower case are the same."""
    flags.DEFINE_enum(name, default, values, help, case_sensitive=False, **where)


def run_script(name: str, doc: str | None, values: flags.FlagValues, arguments: Sequence[str],
               do: Callable[[list[str]], None]) -> int:
    """Print a script's help, or parse its flags and call `do` with the arguments that are no flags.

    Args:
        name, doc: of the script.

    Returns:
        the exit code: 0, or 2 for bad input, which is told in one sentence.
    """
    if HELP & set(arguments):
        print(doc, values.module_help(name), sep="\n")
        return 0
    try:
        do(parse_flags(values, arguments))
    except (ValueError, OSError, flags.Error) as error:
        print(f"{name}.py: {error}", file=sys.stderr)
        return 2
    return 0


def parse_flags(values: flags.FlagValues, arguments: Sequence[str]) -> list[str]:
    """Parse a command line into flags, and return the arguments that are no flags.

    Raises:
        ValueError, flags.Error: one sentence that names what was given, and the nearest flag or preset.
    """
    for argument in arguments:
        if argument.startswith("-") and argument.lstrip("-") == "flagfile=":  # A shell's variable that is not set.
            raise ValueError("--flagfile was given without a value; expected one, or no --flagfile")
    try:
        rest = values(["script", *_read_flagfiles(values, arguments)])[1:]
    except flags.UnrecognizedFlagError as error:
        near = " or ".join(f"--{name}" for name in _nearest(error.flagname, list(values)))
        raise ValueError(f"--{error.flagname} is no flag; perhaps {near} is meant") from error
    except flags.CantOpenFlagFileError as error:
        raise ValueError(_refuse_flagfile(error.__context__)) from error
    except UnicodeDecodeError as error:
        raise ValueError(f"a --flagfile is no text in UTF-8 ({error.reason}); expected a line for each flag") from error
    for name, value in values.flag_values_dict().items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"--{name}={value} was given; expected a finite number")
    return rest


def _read_flagfiles(values, arguments):
    """Return arguments with each --flagfile replaced by the lines of the file, without its byte order mark."""
    lines, comments = values.read_flags_from_files(list(arguments)), ("#", "//")
    if not any(line.startswith(BYTE_ORDER_MARK) for line in lines):
        return lines
    lines = [line for line in lines if not line.startswith(tuple(BYTE_ORDER_MARK + sign for sign in comments))]
    # The first line may be another --flagfile.
    return _read_flagfiles(values, [line.removeprefix(BYTE_ORDER_MARK) for line in lines if line != BYTE_ORDER_MARK])


def _nearest(given, names):
    """Return names that may be meant: those of which the given one is short, as lr is of learning_rate; else three."""
    given, initials = given.lower(), lambda name: "".join(word[0] for word in name.split("_"))
    short = [name for name in names if initials(name) == given or name.lower().startswith(given)]
    return short or difflib.get_close_matches(given, names, n=3, cutoff=0)


def _refuse_flagfile(error):
    """Return a sentence on a flagfile that cannot be opened, with the nearest preset."""
    presets = {path.stem: path for path in (start.ROOT / "presets").glob("*.flags")}
    shortest = lambda path: min(os.path.relpath(path), str(path), key=len)
    near = " or ".join(shortest(presets[name]) for name in _nearest(pathlib.Path(error.filename).stem, presets))
    return f"--flagfile={error.filename} cannot be opened ({error.strerror}); perhaps {near} is meant"
