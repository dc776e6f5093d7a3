"""Network namespaces, through iproute2."""

import contextlib
import ctypes
import os
import pathlib
import subprocess

from .errors import LabError

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)

# What `ip netns exec NODE` is followed by: the node's name becomes its host name too, so that
# programs and prompts tell where they are.
_NAMED = ["unshare", "--uts", "sh", "-c", 'echo "$0" > /proc/sys/kernel/hostname; exec "$@"']


def command(node, argv):
    """The command line that runs `argv` on `node`. It stays one process: every step is an exec."""
    return ["ip", "netns", "exec", node, *_NAMED, node, *argv]


def run(argv):
    """Runs a program to its end and returns what it printed; LabError with its words on failure."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise LabError(f"The program {argv[0]} is missing.") from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip() or f"exit status {done.returncode}"
        raise LabError(f"«{' '.join(argv)}» failed: {said}")
    return done.stdout


def ip(node, *words):
    """`ip` with `words`, on `node`."""
    return run(["ip", "-n", node, *words])


def names():
    """Of all namespaces that there are."""
    return {line.split()[0] for line in run(["ip", "netns", "list"]).splitlines()}


def pids(node):
    """Of all processes on `node`."""
    return [int(pid) for pid in run(["ip", "netns", "pids", node]).split()]


def listening(node, protocol):
    """The ports on which something on `node` waits for "tcp" or "udp"."""
    folder = pathlib.Path("/proc/thread-self/net")
    with inside(node):
        files = [folder / protocol, folder / f"{protocol}6"]
        tables = [file.read_text() for file in files if file.exists()]
    columns = [line.split() for table in tables for line in table.splitlines()[1:]]
    open_states = {"tcp": "0A", "udp": "07"}
    return {int(c[1].split(":")[1], 16) for c in columns if c[3] == open_states[protocol]}


@contextlib.contextmanager
def inside(node):
    """For the calling thread, and as long as the block lasts: what it opens, it opens on `node`.

    A socket stays where it was opened, so this need not last longer than the opening.
    """
    with open("/proc/thread-self/ns/net", "rb") as home, open(f"/run/netns/{node}", "rb") as there:
        _enter(there)
        try:
            yield
        finally:
            _enter(home)


def _enter(namespace):
    if _libc.setns(namespace.fileno(), _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
