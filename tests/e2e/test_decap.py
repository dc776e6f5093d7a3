"""tools/decap on a backend: what it takes for itself, and what it leaves alone.

Frames are put on the wire to web-1 as the next router would. What must not arrive is followed by
something that does: frames keep their order, so no test waits in vain.
"""

import contextlib
import json
import socket

import pytest
from scapy.layers.inet import IP, UDP, IPOption_NOP
from scapy.layers.l2 import Ether

from labkit import namespace
from labkit.errors import LabError
from labkit.traffic import VIP

PORT = 5300
CLIENT = "203.0.113.10"
ROUTER = "192.0.2.1"
NOT_ECT, ECT_0, CE = 0, 2, 3

pytestmark = pytest.mark.usefixtures("lab")


@pytest.fixture
def web_1(running_lab):
    """The packet socket that leads to web-1, and the MAC address there."""
    [link] = json.loads(namespace.run(["ip", "-n", "web-1", "-j", "link", "show", "eth0"]))
    with running_lab.inside("gateway"):
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    with wire:
        wire.bind(("web-1", 0))
        yield wire, link["address"]


@pytest.fixture
def send(web_1):
    """send(text, *headers): sends a datagram with these IP headers in front of it."""
    wire, mac = web_1

    def sender(text, *headers, mac=mac):
        frame = Ether(dst=mac)
        for header in headers:
            frame /= header
        wire.send(bytes(frame / UDP(sport=1111, dport=PORT) / text))

    return sender


@pytest.fixture
def forwarding(running_lab):
    """web-1 is a router as well."""
    key = "net.ipv4.ip_forward"
    namespace.run(running_lab.command("web-1", ["sysctl", "-qw", f"{key}=1"]))
    yield
    namespace.run(running_lab.command("web-1", ["sysctl", "-qw", f"{key}=0"]))


@contextlib.contextmanager
def receiver(lab, node):
    """A function that waits for the next datagram on `node`: its text and its ECN field."""
    with lab.inside(node):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sock:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
        sock.settimeout(5)
        sock.bind(("0.0.0.0", PORT))

        def receive():
            text, [(_, _, tos)], _, _ = sock.recvmsg(2048, 64)
            return text.decode(), tos[0] & 3

        yield receive


def outer(**fields):
    return IP(**{"src": ROUTER, "dst": "10.0.0.11", **fields})


def inner(**fields):
    return IP(**{"src": CLIENT, "dst": VIP, **fields})


def test_it_takes_the_header_off(lab, send):
    with receiver(lab, "web-1") as receive:
        send("plain", outer(), inner())
        assert receive() == ("plain", NOT_ECT)
        send("with options", outer(options=[IPOption_NOP()] * 8), inner())
        assert receive() == ("with options", NOT_ECT)


def test_congestion_is_told(lab, send):
    with receiver(lab, "web-1") as receive:
        send("nothing to tell", outer(tos=ECT_0), inner(tos=ECT_0))
        assert receive() == ("nothing to tell", ECT_0)
        send("told", outer(tos=CE), inner(tos=ECT_0))
        assert receive() == ("told", CE)
        send("cannot be told", outer(tos=CE), inner(tos=NOT_ECT))
        send("next", outer(), inner())
        assert receive() == ("next", NOT_ECT)


def test_frames_for_others_are_left_alone(lab, send):
    with receiver(lab, "web-1") as receive:
        send("not mine", outer(), inner(), mac="02:00:00:00:00:99")
        send("mine", outer(), inner())
        assert receive()[0] == "mine"


@pytest.mark.usefixtures("forwarding")
def test_tunnels_in_transit_are_left_alone(lab, send):
    with receiver(lab, "web-1") as receive:
        send("in transit", outer(dst=CLIENT), inner())
        send("for me", outer(), inner())
        assert receive()[0] == "for me"


@pytest.mark.usefixtures("forwarding")
def test_nobody_is_reached_through_it(lab, send):
    with receiver(lab, "client") as receive:
        send("through the tunnel", outer(), inner(src="198.51.100.99", dst=CLIENT))
        send("as a router does", inner(src="198.51.100.99", dst=CLIENT))
        assert receive()[0] == "as a router does"


def test_attach_and_detach(lab):
    def decap(verb):
        argv = [f"{lab.options.build}/tools/decap/decap", verb, "eth0"]
        return namespace.run(lab.command("client", argv))

    for _ in range(2):
        with pytest.raises(LabError, match="nothing is attached to eth0"):
            decap("status")
        decap("attach")
        decap("attach")  # again: replaces itself
        assert "attached to eth0" in decap("status")
        decap("detach")
    left = namespace.run(lab.command("client", ["tc", "qdisc", "show", "dev", "eth0"]))
    assert "clsact" not in left
