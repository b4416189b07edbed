"""Write rows of timings, with the circumstances that they depend on, as CSV files and as Markdown tables."""

import csv
import datetime
import os
import pathlib
import platform
import re
import shutil
import statistics
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent
CIRCUMSTANCES = "machine backend date".split()


def spread(name, values):
    """Return median, minimum and maximum of values as three columns."""
    digits = 3 if name.startswith("ratio") else 2
    return {name: round(statistics.median(values), digits), f"{name}_min": round(min(values), digits),
            f"{name}_max": round(max(values), digits)}


def circumstances():
    """Return the columns CIRCUMSTANCES: the machine, its GPUs among it, the backend, and today's date."""
    # Virtual machines often hide a processor's name; family and model tell its generation (25 and 17: AMD's Zen 4).
    cpuinfo = pathlib.Path("/proc/cpuinfo").read_text()
    about = dict(re.findall(r"^(model name|cpu family|model)\s*: (.*)$", cpuinfo, re.M))
    name = platform.machine()
    if len(about) == 3:
        name = "{model name} (family {cpu family}, model {model})".format(**about)
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    gpus = []
    if shutil.which(query[0]):
        gpus = subprocess.run(query, capture_output=True, text=True).stdout.split("\n")[:-1]
    machine = " and ".join([f"{len(os.sched_getaffinity(0))} cores of {name}", *gpus])
    backend, date = os.environ.get("KERAS_BACKEND", "tensorflow"), datetime.date.today().isoformat()
    return dict(zip(CIRCUMSTANCES, (machine, backend, date)))


def read_rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def write_rows(path, rows):
    """Write a CSV; its columns are those of the first row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def format_table(rows):
    """Return rows as a Markdown table without the columns CIRCUMSTANCES."""
    names = [name for name in rows[0] if name not in CIRCUMSTANCES]
    lines = [" | ".join(name.replace("_", " ") for name in names), " | ".join("---" for _ in names)]
    lines += [" | ".join(str(row[name]) for name in names) for row in rows]
    return "\n".join(f"| {line} |" for line in lines) + "\n"


def format_circumstances(rows):
    """Return the circumstances of rows in words; rows of several days or machines name them all."""
    return ", ".join("; ".join(dict.fromkeys(row[name] for row in rows)) for name in CIRCUMSTANCES)
