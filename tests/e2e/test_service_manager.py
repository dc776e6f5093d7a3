"""The daemon under a service manager: what it says, what it may do, and the unit that is installed."""

import contextlib
import ctypes
import os
import pathlib
import re
import select
import signal
import socket
import subprocess

import pytest

from alone import BUILD, DEVICES, NODE, alone
from labkit import namespace, wait_until

UNIT = BUILD / "lb/guidewayd.service"


class Manager:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, folder):
        self.path = folder / "notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))
        self._socket.settimeout(30)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()

    def hear(self):
        return self._socket.recv(4096).decode()

    def hear_until(self, *starts):
        """All messages up to one that begins with one of `starts`."""
        heard = [self.hear()]
        while not heard[-1].startswith(starts):
            heard.append(self.hear())
        return heard

    def hear_all(self):
        """What is there already."""
        heard = []
        while select.select([self._socket], [], [], 0)[0]:
            heard.append(self.hear())
        return heard


@pytest.fixture
def manager(tmp_path):
    with Manager(tmp_path) as end:
        yield end


def without_watchdog(messages):
    return [message for message in messages if message != "WATCHDOG=1"]


def test_it_says_what_it_does(tmp_path, manager):
    with alone(tmp_path) as daemon:
        daemon.start(NOTIFY_SOCKET=str(manager.path), WATCHDOG_USEC="400000")
        assert manager.hear() == "READY=1"
        assert "serving" in daemon.guideway("status")
        assert manager.hear() == "STATUS=revision 1 in force"
        assert manager.hear_until("WATCHDOG=1")[-1] == "WATCHDOG=1"
        assert manager.hear_until("WATCHDOG=1")[-1] == "WATCHDOG=1"

        daemon.send_signal(signal.SIGHUP)
        reloading, ready = without_watchdog(manager.hear_until("READY=1"))
        assert re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=\d+", reloading)
        assert ready == "READY=1"
        assert manager.hear_until("STATUS=")[-1] == "STATUS=revision 2 in force"

        good = daemon.config.read_text()
        daemon.config.write_text("services: nonsense\n")
        daemon.send_signal(signal.SIGHUP)
        heard = without_watchdog(manager.hear_until("STATUS="))
        assert [message.split("\n")[0] for message in heard[:2]] == ["RELOADING=1", "READY=1"]
        assert heard[2].startswith("STATUS=revision 2 in force; the last configuration was refused: ")
        daemon.config.write_text(good)

        assert daemon.stop() == 0
        assert without_watchdog(manager.hear_all()) == ["STOPPING=1"]


PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT = 17, 0x4206, 0x4207
WAIT_FOR_THREADS = 0x40000000  # __WALL


@contextlib.contextmanager
def halted(thread):
    """A block in which one thread of another process stands still."""
    libc = ctypes.CDLL(None, use_errno=True)

    def ptrace(request):
        if libc.ptrace(ctypes.c_long(request), thread, None, None) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    ptrace(PTRACE_SEIZE)
    ptrace(PTRACE_INTERRUPT)
    os.waitpid(thread, WAIT_FOR_THREADS)
    try:
        yield
    finally:
        ptrace(PTRACE_DETACH)


def threads(pid):
    """{id: name} of a process."""
    tasks = pathlib.Path(f"/proc/{pid}/task").iterdir()
    return {int(task.name): (task / "comm").read_text().strip() for task in tasks}


def test_no_watchdog_while_a_worker_stands_still(tmp_path, manager):
    with alone(tmp_path) as daemon:
        daemon.start(NOTIFY_SOCKET=str(manager.path), WATCHDOG_USEC="400000")
        manager.hear_until("WATCHDOG=1")
        [worker] = [thread for thread, name in threads(daemon.pid).items() if "worker" in name]
        with halted(worker):
            wait_until(lambda: "no progress of the worker" in daemon.log.read_text(), "a warning")
            manager.hear_all()
            # The control thread lives: it reloads, and looks after its workers before each STATUS.
            for revision in (2, 3, 4):
                daemon.send_signal(signal.SIGHUP)
                heard = manager.hear_until("STATUS=")
                assert heard[-1] == f"STATUS=revision {revision} in force"
                assert "WATCHDOG=1" not in heard
        assert manager.hear_until("WATCHDOG=1")
        assert daemon.stop() == 0


def test_without_a_manager(tmp_path):
    with alone(tmp_path) as daemon:
        daemon.start(NOTIFY_SOCKET="/nowhere/notify", WATCHDOG_USEC="soon")
        # It answers before it notifies.
        wait_until(lambda: "NOTIFY_SOCKET=/nowhere/notify" in daemon.log.read_text(), "the warning")
        assert daemon.stop() == 0


# What the daemon may do.

# To the daemon's MAC, for no VIP.
FRAME = bytes.fromhex("020000000001" "020000000002" "0800") + bytes(46)

CAPABILITIES = {12: "net_admin", 13: "net_raw"}
KEPT = {"tap": {"net_raw"}, "af_packet": {"net_raw"}, "af_xdp": {"net_admin", "net_raw"}}


def held(status):
    """The capabilities of a /proc/…/status: effective and permitted."""
    sets = [int(re.search(rf"^{name}:\s+(\w+)", status, re.M)[1], 16) for name in ("CapEff", "CapPrm")]
    return [{CAPABILITIES.get(n, n) for n in range(64) if bits >> n & 1} for bits in sets]


def unit(key):
    """What the unit says of a key, without comments."""
    return re.findall(rf"^{key}=(.*)$", UNIT.read_text(), re.M)


@pytest.mark.parametrize("nic", DEVICES)
def test_capabilities(tmp_path, nic):
    """With no more than the unit grants it starts; then it drops what it does not need."""
    granted = [name.removeprefix("CAP_").lower() for name in unit("CapabilityBoundingSet")[0].split()]
    bounds = ",".join(["-all", *(f"+{name}" for name in granted)])
    with alone(tmp_path, nic) as daemon:
        daemon.start(["setpriv", "--no-new-privs", f"--bounding-set={bounds}"])
        for task in pathlib.Path(f"/proc/{daemon.pid}/task").iterdir():
            status = (task / "status").read_text()
            main = int(task.name) == daemon.pid
            assert held(status) == [KEPT[nic] if main else set()] * 2, status
            assert "NoNewPrivs:\t1" in status

        [backend] = daemon.ask("get", "backends")["backends"]
        assert backend["state"] == "up"
        wait_until(
            lambda: daemon.ask("get", "backends")["backends"][0]["health"] == "ok", "a good probe"
        )
        before = int(daemon.ask("status")["packets"]["received"])
        daemon.send(FRAME)
        wait_until(lambda: int(daemon.ask("status")["packets"]["received"]) > before, "the packet")
        daemon.send_signal(signal.SIGHUP)
        wait_until(lambda: "revision 2 in force" in daemon.log.read_text(), "the reload")
        log = daemon.log.read_text()
        assert daemon.stop() == 0
        said = daemon.log.read_text()[len(log) :]
        assert not re.search(r"^[EF]\d{8} ", said, re.M), said
        left = namespace.ip(NODE, "link", "show")
        assert "xdp" not in left and ("far0" in left) == (nic != "tap"), left


def test_the_unit(tmp_path):
    """systemd understands it, and would say how far it is confined: 0 is best, 100 worst."""
    assert unit("Type") == ["notify"]
    # Verified as if the daemon were installed where it is now.
    copy = tmp_path / "guidewayd.service"
    installed = re.search(r"^ExecStart=(\S+)", UNIT.read_text(), re.M)[1]
    copy.write_text(UNIT.read_text().replace(installed, str(BUILD / "lb/guidewayd")))
    analyze = ["systemd-analyze", "--man=no"]
    done = subprocess.run([*analyze, "verify", copy], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    argv = [*analyze, "security", "--offline=true", "--threshold=45", "--no-pager", copy]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
