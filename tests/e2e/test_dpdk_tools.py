"""DPDK's own tools on a running daemon."""

import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess

import pytest
from scapy.all import Ether, rdpcap

from alone import alone
from labkit import wait_until

PAGES = pathlib.Path("/sys/kernel/mm/hugepages/hugepages-2048kB")
NEEDED = 160  # huge pages of 2 MiB: the daemon's and a tool's


def prefix(daemon):
    """As the daemon tells it."""
    return re.search(r"file prefix for DPDK's tools (\S+)", daemon.log.read_text())[1]


def run(argv, **environment):
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def telemetry(daemon, command, **environment):
    """dpdk-telemetry.py's answer."""
    argv = ["dpdk-telemetry.py", "-f", prefix(daemon)]
    done = subprocess.run(
        argv,
        input=f"{command}\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])[command.split(",")[0]]


FRAME = Ether(dst="02:00:00:00:00:01", src="02:00:00:00:00:02", type=0x88B5) / (b"Guideway" * 8)


def test_telemetry_needs_no_huge_pages(tmp_path):
    with alone(tmp_path) as daemon:
        daemon.start()
        assert telemetry(daemon, "/ethdev/list") == [0]
        before = telemetry(daemon, "/ethdev/stats,0")["ipackets"]
        daemon.send(bytes(FRAME))
        wait_until(lambda: telemetry(daemon, "/ethdev/stats,0")["ipackets"] > before, "the packet")
        daemon.stop()
        assert not pathlib.Path("/run/dpdk", prefix(daemon)).exists()


def test_telemetry_as_a_service(tmp_path):
    """systemd names a folder for what a service has in /run; DPDK and its tools go by that."""
    with alone(tmp_path) as daemon:
        daemon.start(RUNTIME_DIRECTORY=str(tmp_path))
        assert telemetry(daemon, "/ethdev/list", RUNTIME_DIRECTORY=str(tmp_path)) == [0]
        assert not pathlib.Path("/run/dpdk", prefix(daemon)).exists()


@pytest.fixture
def pages(tmp_path):
    """A mount of huge pages, and enough of them for a daemon and a tool."""
    number = PAGES / "nr_hugepages"
    reserved = int(number.read_text())
    mount = tmp_path / "huge"
    mount.mkdir()
    number.write_text(str(reserved + NEEDED))
    try:
        if int((PAGES / "free_hugepages").read_text()) < NEEDED:
            pytest.skip(f"this machine has no {2 * NEEDED} MiB in one piece each for huge pages")
        subprocess.run(["mount", "-t", "hugetlbfs", "-o", "pagesize=2M", "none", mount], check=True)
        try:
            yield mount
        finally:
            subprocess.run(["umount", mount], check=True)
    finally:
        number.write_text(str(reserved))


def test_proc_info(tmp_path, pages):
    with alone(tmp_path, hugepages=True) as daemon:
        daemon.start()
        base = ["dpdk-proc-info", "--no-pci", "--file-prefix", prefix(daemon), "--"]
        assert re.search(r"driver net_tap device net_tap0", run([*base, "--show-port"]))
        daemon.send(bytes(FRAME))

        def received():
            return int(re.search(r"RX-packets: (\d+)", run([*base, "--stats"]))[1])

        wait_until(lambda: received() > 0, "the packet", deadline_s=60)
        assert daemon.guideway("status")  # nobody minds
        assert daemon.stop() == 0
        assert list(pages.iterdir()) == []


@contextlib.contextmanager
def dumpcap(daemon, file, *options):
    """A capture that has begun; ended by the tool's own conditions, or by the block's end."""
    argv = ["dpdk-dumpcap", f"--file-prefix={prefix(daemon)}", "-i", "0", "-w", str(file), *options]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("nic", ["tap", "af_packet"])
def test_dumpcap(tmp_path, pages, nic):
    with alone(tmp_path, nic, hugepages=True) as daemon:
        daemon.start()
        listed = run(["dpdk-dumpcap", f"--file-prefix={prefix(daemon)}", "-D"])
        assert listed.startswith("0. net_")
        file = tmp_path / "captured.pcapng"
        with dumpcap(daemon, file, "-c", "3", "-f", "ether proto 0x88b5") as process:
            def captured():
                daemon.send(bytes(FRAME))
                return process.poll() is not None

            wait_until(captured, "three packets in the capture", deadline_s=60)
            assert process.returncode == 0, process.stdout.read()
        assert [bytes(packet) for packet in rdpcap(str(file))][:3] == [bytes(FRAME)] * 3
        assert daemon.stop() == 0
        assert list(pages.iterdir()) == []


def test_nothing_is_left_by_a_crash(tmp_path, pages):
    """Neither a daemon nor a tool that was killed is in the way of the next start, or keeps memory."""
    with alone(tmp_path, hugepages=True) as daemon:
        daemon.start()
        with dumpcap(daemon, tmp_path / "captured.pcapng") as process:
            process.stdout.readline()  # it captures
        daemon.stop(signal.SIGKILL)
        assert list(pages.iterdir()) != []
        daemon.start()
        assert telemetry(daemon, "/ethdev/list") == [0]
        assert daemon.stop() == 0
        assert list(pages.iterdir()) == []
        assert not pathlib.Path("/run/dpdk", prefix(daemon)).exists()


def test_two_daemons_with_huge_pages(tmp_path, pages):
    """They have the names of their files apart by their sockets."""
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    with alone(folders[0], hugepages=True) as first:
        first.start()
        # In the same namespace, with another TAP and socket.
        second = type(first)(folders[1], "tap", True)
        second.config.write_text(second.config.read_text().replace("far0", "far1"))
        second.start()
        try:
            assert prefix(first) != prefix(second)
            assert telemetry(first, "/ethdev/list") == telemetry(second, "/ethdev/list") == [0]
            assert first.stop() == 0
            assert telemetry(second, "/ethdev/list") == [0]
        finally:
            assert second.stop() == 0
        assert list(pages.iterdir()) == []
