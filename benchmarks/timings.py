"""Rows of timings: what they depend on, as CSV files and as Markdown tables."""

import csv
import datetime
import os
import pathlib
import platform
import re
import shutil
import statistics
import subprocess

CIRCUMSTANCES = "machine backend date".split()


def spread(name, values):
    """Return median, minimum and maximum."""
    digits = 3 if name == "ratio" else 2
    return {name: round(statistics.median(values), digits), f"{name}_min": round(min(values), digits),
            f"{name}_max": round(max(values), digits)}


def circumstances():
    """Return what a timing depends on."""
    # Virtual machines often hide a processor's name; family and model tell its generation (25 and 17: AMD's Zen 4).
    about = dict(re.findall(r"^(model name|cpu family|model)\s*: (.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M))
    name = "{model name} (family {cpu family}, model {model})".format(**about) if len(about) == 3 else platform.machine()
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    gpus = subprocess.run(query, capture_output=True, text=True).stdout.split("\n")[:-1] if shutil.which(query[0]) else []
    values = (" and ".join([f"{len(os.sched_getaffinity(0))} cores of {name}", *gpus]), os.environ.get("KERAS_BACKEND", "tensorflow"),
              datetime.date.today().isoformat())
    return dict(zip(CIRCUMSTANCES, values))


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def write(out, rows):
    """Write <out>.csv."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{out}.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def table(rows):
    """Return rows as a Markdown table, without the circumstances."""
    names = [name for name in rows[0] if name not in CIRCUMSTANCES]
    lines = [" | ".join(name.replace("_", " ") for name in names), " | ".join("---" for _ in names)]
    return "\n".join(f"| {line} |" for line in lines + [" | ".join(str(row[name]) for name in names) for row in rows]) + "\n"


def where(rows):
    """Return the circumstances of rows as words; of runs on several days or machines, all of them."""
    return ", ".join("; ".join(dict.fromkeys(row[name] for row in rows)) for name in CIRCUMSTANCES)
