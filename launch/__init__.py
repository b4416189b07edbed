"""From a command line to the parts of a run: flags, settings, environments, agent; and the process that it runs in."""

from launch import start  # noqa: F401 - first: it sets numbers of threads, before a package is imported that reads them
