"""The main job on the other devices that stand for a NIC."""

import hashlib
import os
import subprocess

import pytest

from conftest import BACKENDS
from observe import weights
from labkit import Options
from labkit.traffic import VIP, Download, echo, get, spread, unfair

NICS = ["af_packet", "af_xdp"]
pytestmark = pytest.mark.parametrize(
    "running_lab", [Options(nic=nic, backends=BACKENDS) for nic in NICS], ids=NICS, indirect=True
)


def test_it_forwards(lab):
    assert unfair(spread(get(lab) for _ in range(1000)), weights(lab)) == []
    assert echo(lab, b"over UDP")[1] == b"over UDP"

    file = lab.shared / "file.bin"
    file.write_bytes(os.urandom(32 << 20))
    download = Download(lab, "/files/file.bin")
    download.join()
    assert download.digest == hashlib.sha256(file.read_bytes()).hexdigest()


def test_it_takes_full_frames(lab):
    """An upload, whose segments fill the MTU once they are encapsulated."""
    file = lab.folder("client") / "upload.bin"
    file.write_bytes(os.urandom(16 << 20))
    argv = ["curl", "-sSf", "-m", "60", "-T", str(file), f"http://{VIP}/uploads/upload.bin"]
    subprocess.run(lab.command("client", argv), check=True)


def test_it_comes_back(lab):
    lab.kill("balancer/guidewayd")
    lab.start("balancer/guidewayd")
    assert unfair(spread(get(lab) for _ in range(500)), weights(lab)) == []
