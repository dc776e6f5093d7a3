"""tools/decap on a backend: what it takes for itself, and what it leaves alone.

Frames are put on the wire to web-1 as the next router would. What must not arrive is followed by
something that does: frames keep their order, so no test waits in vain.
"""

import contextlib
import functools
import json
import os
import socket

import pytest
from scapy.layers.inet import IP, UDP, IPOption_NOP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment
from scapy.layers.l2 import GRE, Ether
from scapy.packet import Raw

from ways import BACKENDS, CLIENT, IN_EVERY_WAY, TUNNELS, Connection, kernel_counters
from labkit import namespace
from labkit.errors import LabError

PORT = 5300
GUE_PORT = 6080
WEB_1 = {4: "10.1.0.11", 6: "2001:db8:1::11"}
VIP = {4: "198.51.100.10", 6: "2001:db8:100::10"}
ROUTER = {4: "192.0.2.1", 6: "2001:db8:3::1"}
STRANGER = {4: "198.18.0.9", 6: "2001:db8:99::9"}
NOT_ECT, ECT_0, CE = 0, 2, 3

pytestmark = [IN_EVERY_WAY, pytest.mark.usefixtures("lab")]
inner_families = pytest.mark.parametrize("inner", [4, 6], ids=["v4-in", "v6-in"])
outer_families = pytest.mark.parametrize("outer", [4, 6], ids=["v4", "v6"])


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
    """send(text, *headers): sends a datagram with these headers in front of it."""
    wire, mac = web_1

    def sender(text, *headers, mac=mac):
        wire.send(bytes(stack(Ether(dst=mac), *headers, UDP(sport=1111, dport=PORT), Raw(text))))

    return sender


@pytest.fixture
def forwarding(running_lab):
    """web-1 is a router as well."""

    def switch(value):
        for key in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
            argv = ["sysctl", "-qw", f"{key}={value}"]
            namespace.run(running_lab.command("web-1", argv))

    switch(1)
    yield
    switch(0)


@contextlib.contextmanager
def receiver(lab, node, port=PORT):
    """A function that waits for the next datagram on `node`: its text and its ECN field."""
    with lab.inside(node):
        sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    with sock:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
        sock.settimeout(5)
        sock.bind(("::", port))

        def receive():
            text, controls, _, _ = sock.recvmsg(2048, 256)
            wanted = {(socket.IPPROTO_IP, socket.IP_TOS), (socket.IPPROTO_IPV6, socket.IPV6_TCLASS)}
            # A traffic class of 0 comes with IPv4 packets too.
            ecn = max(data[0] & 3 for level, kind, data in controls if (level, kind) in wanted)
            return text.decode(errors="replace"), ecn

        yield receive


def stack(*layers):
    """One packet of them all."""
    return functools.reduce(lambda packet, layer: packet / layer, layers)


def ip(family, source, destination, tos=NOT_ECT, **fields):
    addresses = {"src": source[family], "dst": destination[family]}
    if family == 4:
        return IP(**{**addresses, "tos": tos, **fields})
    return IPv6(**{**addresses, "tc": tos, **fields})


def to_web_1(family, **fields):
    return ip(family, ROUTER, WEB_1, **fields)


def to_vip(family, **fields):
    return ip(family, CLIENT, VIP, **fields)


def gre(inner, **fields):
    return GRE(proto={4: 0x0800, 6: 0x86DD}[inner], **fields)


def gue(inner, first=0, port=GUE_PORT, flags=b"\0\0"):
    header = bytes([first, {4: 4, 6: 41}[inner]]) + flags
    return UDP(sport=50000, dport=port) / Raw(header)


SHIMS = {"ipip": lambda inner: [], "gre": lambda inner: [gre(inner)], "gue": lambda i: [gue(i)]}


@pytest.mark.parametrize("shim", SHIMS.values(), ids=SHIMS.keys())
@inner_families
@outer_families
def test_it_takes_the_headers_off(lab, send, shim, inner, outer):
    with receiver(lab, "web-1") as receive:
        send("plain", to_web_1(outer), *shim(inner), to_vip(inner))
        assert receive() == ("plain", NOT_ECT)
        large = "large " + 1300 * "."
        send(large, to_web_1(outer), *shim(inner), to_vip(inner))
        assert receive() == (large, NOT_ECT)


@pytest.mark.parametrize("shim", SHIMS.values(), ids=SHIMS.keys())
@outer_families
def test_what_comes_out_is_what_went_in(lab, send, shim, outer):
    """Byte by byte, as a raw socket sees it; which tells of IPv4 headers only."""
    options = [IPOption_NOP()] * 8
    packet = to_vip(4, options=options, ttl=7, id=4711, tos=0xB8 | ECT_0, flags="DF")
    whole = packet / UDP(sport=1111, dport=PORT) / "all of it"
    with lab.inside("web-1"):
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
    with raw:
        raw.settimeout(5)
        send("all of it", to_web_1(outer), *shim(4), packet)
        while (received := raw.recv(2048)) != bytes(whole):
            # Raw sockets see the datagrams of others too.
            assert b"all of it" not in received


@inner_families
def test_an_outer_header_with_options(lab, send, inner):
    with receiver(lab, "web-1") as receive:
        send("with options", to_web_1(4, options=[IPOption_NOP()] * 8), to_vip(inner))
        assert receive() == ("with options", NOT_ECT)


@pytest.mark.parametrize("shim", SHIMS.values(), ids=SHIMS.keys())
@inner_families
@outer_families
def test_congestion_is_told(lab, send, shim, inner, outer):
    with receiver(lab, "web-1") as receive:
        send("nothing to tell", to_web_1(outer, tos=ECT_0), *shim(inner), to_vip(inner, tos=ECT_0))
        assert receive() == ("nothing to tell", ECT_0)
        send("told", to_web_1(outer, tos=CE), *shim(inner), to_vip(inner, tos=ECT_0))
        assert receive() == ("told", CE)
        send("cannot be told", to_web_1(outer, tos=CE), *shim(inner), to_vip(inner))
        send("next", to_web_1(outer), *shim(inner), to_vip(inner))
        assert receive() == ("next", NOT_ECT)


LEFT_ALONE = {
    "a fragment": [to_web_1(4, flags="MF", proto=4)],
    "a later fragment": [to_web_1(4, frag=100, proto=4)],
    "a fragment of IPv6": [to_web_1(6), IPv6ExtHdrFragment(m=1, nh=4)],
    "extension headers": [to_web_1(6), IPv6ExtHdrDestOpt(nh=4)],
    "another protocol": [to_web_1(4, proto=99)],
    "the wrong family": [to_web_1(4, proto=41)],
    "GRE with a checksum": [to_web_1(4), gre(4, chksum_present=1)],
    "GRE with a key": [to_web_1(4), gre(4, key_present=1, key=1)],
    "GRE of another version": [to_web_1(4), gre(4, version=1)],
    "GRE around Ethernet": [to_web_1(4), GRE(proto=0x6558)],
    "GUE on another port": [to_web_1(4), gue(4, port=GUE_PORT + 1)],
    "GUE with options": [to_web_1(4), gue(4, first=0x01)],
    "GUE of control": [to_web_1(4), gue(4, first=0x20)],
    "GUE of another variant": [to_web_1(4), gue(4, first=0x40)],
    "GUE with flags": [to_web_1(4), gue(4, flags=b"\x80\0")],
}


@pytest.mark.parametrize("headers", LEFT_ALONE.values(), ids=LEFT_ALONE.keys())
def test_what_no_balancer_writes_is_left_alone(lab, send, headers):
    with receiver(lab, "web-1") as receive:
        send("left alone", *headers, to_vip(4))
        send("next", to_web_1(4), to_vip(4))
        assert receive()[0] == "next"


def test_what_is_cut_short_is_left_alone(lab, send, web_1):
    wire, mac = web_1
    with receiver(lab, "web-1") as receive:
        for outer in (4, 6):
            for shim in SHIMS.values():
                whole = bytes(stack(Ether(dst=mac), to_web_1(outer), *shim(4), to_vip(4)))
                for length in range(14, len(whole)):
                    wire.send(whole[:length])
        send("next", to_web_1(4), to_vip(4))
        assert receive()[0] == "next"


def test_another_port_for_gue(lab, send):
    def attach(*words):
        argv = [f"{lab.options.build}/tools/decap/decap", "attach", "eth0", *words]
        namespace.run(lab.command("web-1", argv))

    with receiver(lab, "web-1") as receive, receiver(lab, "web-1", GUE_PORT) as receive_here:
        try:
            attach("6081")
            send("the new port", to_web_1(4), gue(4, port=6081), to_vip(4))
            assert receive()[0] == "the new port"
            send("the old one", to_web_1(4), gue(4), to_vip(4))
            assert "the old one" in receive_here()[0], "whoever listens there has it"
        finally:
            attach()
        send("the old one again", to_web_1(4), gue(4), to_vip(4))
        assert receive()[0] == "the old one again"


@inner_families
@outer_families
def test_frames_for_others_are_left_alone(lab, send, inner, outer):
    with receiver(lab, "web-1") as receive:
        send("not mine", to_web_1(outer), to_vip(inner), mac="02:00:00:00:00:99")
        send("mine", to_web_1(outer), to_vip(inner))
        assert receive()[0] == "mine"


@pytest.mark.usefixtures("forwarding")
@inner_families
@outer_families
def test_tunnels_in_transit_are_left_alone(lab, send, inner, outer):
    with receiver(lab, "web-1") as receive:
        send("in transit", ip(outer, ROUTER, CLIENT), to_vip(inner))
        send("for me", to_web_1(outer), to_vip(inner))
        assert receive()[0] == "for me"


@pytest.mark.usefixtures("forwarding")
@inner_families
@outer_families
def test_nobody_is_reached_through_it(lab, send, inner, outer):
    with receiver(lab, "client") as receive:
        send("through the tunnel", to_web_1(outer), ip(inner, STRANGER, CLIENT))
        send("as a router does", ip(inner, STRANGER, CLIENT))
        assert receive()[0] == "as a router does"


@pytest.fixture
def merging(running_lab):
    """GRO at the backends has packets to put together. It wants them to come by NAPI, which a veth
    does for a peer without TSO, and to be kept for a moment, as the hardware's bursts would be."""

    def switch(tso, flush_ns, defer):
        for node in BACKENDS:
            tso_of_peer = ["ethtool", "-K", node, "tso", tso]
            namespace.run(running_lab.command("gateway", tso_of_peer))
            for name, value in (("gro_flush_timeout", flush_ns), ("napi_defer_hard_irqs", defer)):
                write = ["sh", "-c", f"echo {value} > /sys/class/net/eth0/{name}"]
                namespace.run(running_lab.command(node, write))

    switch("off", 200_000, 10)
    yield
    switch("on", 0, 0)


@pytest.mark.usefixtures("merging")
@pytest.mark.parametrize("way", [w for w in TUNNELS if w.forwarding in ("ipip", "gre")], ids=str)
def test_what_gro_put_together_is_taken_apart_as_one(lab, way):
    """What comes out is as large: the kernel has far fewer packets to handle than were sent."""
    data = os.urandom(8 << 20)
    with Connection(lab, way.vip) as connection:
        name = "IpInReceives" if way.inner == 4 else "Ip6InReceives"
        before = kernel_counters(lab, connection.greeting.backend)
        assert connection.echo(data) == data
        after = kernel_counters(lab, connection.greeting.backend)
    assert after[name] - before[name] < len(data) / 1500 / 4
    assert after["TcpInCsumErrors"] == before["TcpInCsumErrors"]


def test_attach_and_detach(lab):
    def decap(*words):
        argv = [f"{lab.options.build}/tools/decap/decap", *words]
        return namespace.run(lab.command("client", argv))

    for _ in range(2):
        with pytest.raises(LabError, match="nothing is attached to eth0"):
            decap("status", "eth0")
        decap("attach", "eth0")
        assert "attached to eth0, GUE on port 6080" in decap("status", "eth0")
        decap("attach", "eth0", "65535")  # again: replaces itself
        assert "attached to eth0, GUE on port 65535" in decap("status", "eth0")
        decap("detach", "eth0")
    left = namespace.run(lab.command("client", ["tc", "qdisc", "show", "dev", "eth0"]))
    assert "clsact" not in left
    for port in ("0", "65536", "x", "-1", ""):
        with pytest.raises(LabError, match="no UDP port"):
            decap("attach", "eth0", port)
