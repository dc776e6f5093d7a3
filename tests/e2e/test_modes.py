"""Each way to a backend with real connections, in both families.

The clients' packets are as large as 1500 bytes allow. What a tunnel adds makes them too large, and
the client's kernel has to learn that from the balancer; test_path_mtu.py has more of that.
"""

import json
import os
import subprocess

import pytest

from observe import wait_state
from ways import (
    BACKENDS,
    CLIENT,
    IN_EVERY_WAY,
    PORT,
    WAYS,
    Connection,
    Datagrams,
    forget_mtus,
    known_mtu,
)
from labkit import wait_until

pytestmark = IN_EVERY_WAY

MEGABYTES = os.urandom(4 << 20)


@pytest.fixture(autouse=True)
def unlearned(lab):
    forget_mtus(lab)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_tcp(lab, way):
    """Both ways at once; the backend sees the client."""
    with Connection(lab, way.vip) as connection:
        greeting = connection.greeting
        assert (greeting.address, greeting.port) == connection.own
        assert greeting.address == CLIENT[way.inner]
        assert connection.echo(MEGABYTES) == MEGABYTES
    assert known_mtu(way.vip) == (way.mtu if way.is_tunnel else None)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_udp(lab, way):
    """Each backend is reached."""
    seen = set()

    def ask():
        with Datagrams(lab, way.vip) as datagrams:
            datagrams.send(b"over UDP")
            greeting, payload = datagrams.receive()
            assert (greeting.address, greeting.port) == datagrams.own
            assert payload == b"over UDP"
            seen.add(greeting.backend)
        return seen == set(BACKENDS)

    wait_until(ask, "both backends to answer")


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_it_goes_where_explain_says(lab, way):
    """The command line's own copy of the packet path, on the same file, and the daemon agree."""

    def host(address):
        return f"[{address}]" if way.inner == 6 else address

    first = 20000 + 10 * WAYS.index(way)  # no port twice: the kernel would not let us
    for port in range(first, first + 8):
        packet = f"tcp {host(CLIENT[way.inner])}:{port} > {host(way.vip)}:{PORT} syn"
        file = str(lab.config_file("balancer"))
        argv = [f"{lab.options.build}/tools/guideway", "explain", "--config", file, packet]
        done = subprocess.run([*argv, "-o", "json"], capture_output=True, check=True)
        said = json.loads(done.stdout)
        assert said["verdict"] == "forward"
        assert said["service"] == f"{way}-tcp"
        with Connection(lab, way.vip, source_port=port) as connection:
            assert connection.greeting.backend == said["backend"]


def test_a_backend_that_dies_is_missed_by_every_way(lab):
    """Probes come from the balancer's own kernel, to IPv4 and IPv6 addresses, those of nat among
    them."""
    config = lab.config()
    for service in config["services"]:
        service["health_check"] |= {"interval": "250ms", "fall": 2}
    assert lab.apply(config).returncode == 0
    names = {f"{way}-{protocol}/web-2" for way in WAYS for protocol in ("tcp", "udp")}
    lab.kill("web-2/echo")
    wait_state(lab, "down", *names)
    for way in WAYS:
        for _ in range(3):
            with Connection(lab, way.vip) as connection:
                assert connection.greeting.backend == "web-1"
    lab.start("web-2/echo")
    wait_state(lab, "up", *names)
