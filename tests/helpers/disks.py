"""A small disk that a test can fill and free again."""

import contextlib
import os
import pathlib
import resource
import subprocess


class Disk:
    """A tmpfs, which can be full, if this process may mount one; otherwise a folder, where `fill` limits each file."""

    def __init__(self, place, megabytes):
        self.place = pathlib.Path(place)
        self.place.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(self.place)]
        self.mounted = subprocess.run(mount, capture_output=True).returncode == 0
        self.limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(self, but=0):
        """Leave no more than `but` bytes."""
        if not self.mounted:
            resource.setrlimit(resource.RLIMIT_FSIZE, (but, self.limits[1]))
            return
        with open(self.place / "ballast", "ab", buffering=0) as ballast, contextlib.suppress(OSError):
            while True:
                ballast.write(b"." * 4096)
        os.truncate(self.place / "ballast", (self.place / "ballast").stat().st_size - but)

    def free(self):
        """Give the space back."""
        (self.place / "ballast").unlink(missing_ok=True)
        resource.setrlimit(resource.RLIMIT_FSIZE, self.limits)


@contextlib.contextmanager
def small_disk(place, megabytes=8):
    """Yield a Disk, and remove it after the block."""
    disk = Disk(place, megabytes)
    try:
        yield disk
    finally:
        disk.free()
        if disk.mounted:
            # Lazy, since a run in this process may still have files open.
            subprocess.run(["umount", "--lazy", str(disk.place)], check=True)
