"""Write runs as one HTML page that opens from a file, without a network: scores, curves, tables, films, commands.

    python report.py runs/* -o report.html

An argument is a run or a folder of runs; default: runs. Runs are one experiment when their settings differ in nothing
but seed, maxsteps, maxepisodes, eval_period, checkpoint_period and weights_period. Curves, tables and sweeps are the
same as in plot.py, with the same statistics. Films and pictures (.mp4, .gif, .png) in a run's directory are put into
the page, each up to 3 MB.
"""

import pathlib
import shlex
import sys

from launch import start
from launch.parsing import run_script
from launch.settings import check_settings

from absl import flags

from analysis import page
from storage import files, reading


def define_flags() -> flags.FlagValues:
    """Return the flags of this script with their defaults."""
    values = flags.FlagValues()
    flags.DEFINE_string("out", "report.html", "path of the page", short_name="o", flag_values=values,
                        module_name="report")
    return values


def write_report(paths: list[str], out: str | pathlib.Path) -> list[str]:
    """Write the page of the runs among paths; return the lines to print.

    Raises:
        ValueError: there is no run, all are damaged, or the page cannot be written.
    """
    folders = [path for path in paths if not pathlib.Path(path).is_file()]  # Logs and tables lie beside runs.
    out = pathlib.Path(out)
    if out.suffix.lower() not in ("", ".html", ".htm"):
        raise ValueError(f"--out={out} asks for {out.suffix}; expected the path of a page, such as "
                         f"{out.with_suffix('.html')}")
    if out.is_dir():
        raise ValueError(f"--out={out} is a directory; expected the path of a page, such as {out / 'report.html'}")
    runs, others = reading.find_runs(folders or paths, check_settings)
    command = shlex.join(["python", "report.py", *(folders or paths), "-o", str(out)])
    runs, damaged = page.keep_whole(runs)
    text, num_experiments = page.make_page(runs, [*others, *damaged], command)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        files.write_whole(out, text.encode())
    except OSError as error:
        raise ValueError(f"--out={out} cannot be written ({error.strerror})") from error
    said = (f"{len(runs)} run{'s' * (len(runs) > 1)} in {num_experiments} experiment{'s' * (num_experiments > 1)}: "
            f"{out}, {len(text) / 1e6:.1f} MB.")
    return [*(f"Note: {note}." for note in (*others, *damaged)), said]


def main(arguments: list[str]) -> int:
    """Return the exit code: 0, or 2 for bad input."""
    values = define_flags()
    write = lambda paths: print(*write_report(paths or ["runs"], values.out), sep="\n")
    return run_script("report", __doc__, values, arguments, write)


if __name__ == "__main__":
    start.end_with_reader()
    sys.exit(main(sys.argv[1:]))
