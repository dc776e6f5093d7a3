"""What clients see when all is well."""

import contextlib
import hashlib
import os
import subprocess

import pytest

from observe import weights
from labkit.counters import packets
from labkit.traffic import VIP, Download, ask, connect, echo, get, session, spread, unfair

GIGABYTE = 1 << 30
SHARED = "large.bin"  # 1 GB, random, the same on every backend


@pytest.fixture(scope="module")
def large_file(running_lab):
    """(path, SHA-256) of a file that every backend serves."""
    path = running_lab.shared / SHARED
    digest = hashlib.sha256()
    block = os.urandom(1 << 24)
    with path.open("wb") as file:
        for i in range(GIGABYTE // len(block)):
            piece = block[i:] + block[:i]  # none like the other
            digest.update(piece)
            file.write(piece)
    yield path, digest.hexdigest()
    path.unlink()


def new_flows(lab):
    backends = lab.ask("get", "backends")["backends"]
    return {b["name"]: int(b["new_flows"]) for b in backends if b["service"] == "web"}


def sha256(path):
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def test_connections_spread_by_weight_and_are_counted(lab):
    before = new_flows(lab)
    counts = spread(get(lab) for _ in range(4000))
    after = new_flows(lab)

    assert unfair(counts, weights(lab)) == []
    assert {name: after[name] - before[name] for name in after} == dict(counts)


def test_udp_echo(lab):
    answered = set()
    for size in range(0, 1400, 10):
        payload = os.urandom(size)
        backend, came_back = echo(lab, payload)
        assert came_back == payload
        answered.add(backend)
    assert answered == {"web-1", "web-2", "web-3"}


def test_a_gigabyte_down(lab, large_file):
    """The answers come straight from the backend, the acknowledgements go through the balancer."""
    download = Download(lab, f"/files/{SHARED}")
    download.join()
    assert download.error == ""
    assert download.digest == large_file[1]


def test_a_gigabyte_up(lab, large_file):
    """Every byte goes through the balancer."""
    path, digest = large_file
    argv = ["curl", "-sSf", "-T", str(path), f"http://{VIP}/uploads/{SHARED}"]
    subprocess.run(lab.command("client", argv), check=True)

    [uploaded] = [file for node in lab.nodes for file in lab.folder(node).glob(f"uploads/{SHARED}")]
    try:
        assert sha256(uploaded) == digest
    finally:
        uploaded.unlink()


def test_200_parallel_connections(lab):
    """All open at once, each answered by one backend to the end."""
    with contextlib.ExitStack() as stack:
        sessions = [stack.enter_context(session(lab)) for _ in range(200)]
        rounds = [[ask(s).backend for s in sessions] for _ in range(5)]
    assert all(backends == rounds[0] for backends in rounds)
    assert set(rounds[0]) == {"web-1", "web-2", "web-3"}


def test_a_port_that_is_not_served(lab):
    """Is not answered, and the drop has its reason."""
    before = packets(lab)["drops"]["port_not_served"]
    with pytest.raises(TimeoutError):
        connect(lab, port=81, timeout_s=0.5)
    assert packets(lab)["drops"]["port_not_served"] > before
