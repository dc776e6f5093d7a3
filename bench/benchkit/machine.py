"""This machine: what it is, and what a benchmark needs of it for a while."""

import contextlib
import os
import pathlib
import platform
import shlex
import subprocess
import sys
import time

from labkit import LabError

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
_HUGE_PAGES = pathlib.Path("/sys/kernel/mm/hugepages/hugepages-2048kB")
HUGE_PAGE_BYTES = 2 << 20


def describe():
    """What a figure must carry, as texts: {"machine", "kernel", "commit", "command", "others"}.

    The last is what is going on beside the benchmark; it takes a second to find out.
    """
    models = {
        line.partition(":")[2].strip()
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    }
    program = pathlib.Path(sys.argv[0]).resolve().relative_to(REPOSITORY)
    return {
        "machine": f"{', '.join(sorted(models)) or platform.machine()}, {os.cpu_count()} cores",
        "kernel": platform.release(),
        "commit": _commit(),
        "command": shlex.join([str(program), *sys.argv[1:]]),
        "others": _others(_busy_cores(1)),
    }


def idle_s():
    """Time that the cores did nothing, or were taken away by the machine's host, all together."""
    fields = pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    idle, iowait, steal = int(fields[3]), int(fields[4]), int(fields[7])
    return (idle + iowait + steal) / os.sysconf("SC_CLK_TCK")


def _others(busy_cores):
    told = f"{busy_cores:.2f} cores busy before the start"
    return told if busy_cores < 0.2 else told + ": too busy for figures that are to be quoted"


def _busy_cores(seconds):
    idle, began = idle_s(), time.monotonic()
    time.sleep(seconds)
    return max(0, os.cpu_count() - (idle_s() - idle) / (time.monotonic() - began))


def _commit():
    def git(*words):
        argv = ["git", "-C", str(REPOSITORY), *words]
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short=12", "HEAD") + (" with changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def need_root():
    if os.geteuid() != 0:
        raise LabError("This needs root.")


def install(*packages):
    """Sees to it that the Debian packages are there."""
    argv = [REPOSITORY / "tools/packages", *packages]
    done = subprocess.run(argv, stdout=sys.stderr, check=False)
    if done.returncode != 0:
        raise LabError(f"The packages {', '.join(packages)} are needed.")


@contextlib.contextmanager
def huge_pages(count):
    """For as long as the block lasts, `count` huge pages of 2 MiB are free at its beginning; then
    as many are reserved as before."""
    if not _HUGE_PAGES.exists():
        raise LabError("This kernel has no huge pages of 2 MiB.")
    before = _read("nr_hugepages")
    more = count - _read("free_hugepages")
    if more <= 0:
        yield
        return
    try:
        _reserve(before + more)
        if _read("free_hugepages") < count:
            raise LabError(f"The kernel does not find memory for {count} huge pages of 2 MiB.")
        yield
    finally:
        _reserve(before)


def _read(name):
    return int((_HUGE_PAGES / name).read_text())


def _reserve(count):
    (_HUGE_PAGES / "nr_hugepages").write_text(str(count))
