"""Datagrams that are too large for one packet: there, and with nat back again."""

import contextlib
import os
import socket

import pytest
from scapy.layers.inet import IP, UDP, fragment
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment, fragment6
from scapy.packet import Raw

from ways import (
    CLIENT,
    FLAT,
    IN_EVERY_WAY,
    PORT,
    TUNNELS,
    Datagrams,
    forget_mtus,
    known_mtu,
    way,
)
from labkit import namespace, wait_until
from labkit.counters import packets

pytestmark = IN_EVERY_WAY

LARGE = 4000  # bytes: three fragments
MANY = 30


@pytest.fixture(autouse=True)
def unlearned(lab):
    forget_mtus(lab)


def learn_mtu(lab, way):
    """Has the client's kernel make its fragments so small that they fit the tunnel. IPv6 learns
    that by itself; IPv4 fragments carry no DF, so nobody tells it."""
    if way.inner == 4:
        route = [way.vip, "via", "203.0.113.1", "mtu", str(way.mtu)]
        namespace.ip("client", "route", "replace", *route)
        return
    with Datagrams(lab, way.vip) as datagrams:

        def knows():
            with contextlib.suppress(OSError):  # what the balancer said of the one before
                datagrams.send(bytes(LARGE))
            return known_mtu(way.vip) == way.mtu

        wait_until(knows, "the client to learn the path's MTU")


@pytest.fixture
def room(lab, way):
    """The client sends fragments that fit."""
    if way.is_tunnel:
        learn_mtu(lab, way)
    yield
    if way.is_tunnel and way.inner == 4:
        namespace.ip("client", "route", "delete", way.vip)


def numbered(n, size=LARGE):
    return n.to_bytes(4, "big") + os.urandom(size - 4)


def assert_each_is_answered_once(datagrams, sent):
    """Then comes the answer to a last one, and no other before it."""
    received = [datagrams.receive() for _ in sent]
    assert sorted(payload for _, payload in received) == sorted(sent)
    for greeting, _ in received:
        assert (greeting.address, greeting.port) == datagrams.own
    assert len({greeting.backend for greeting, _ in received}) == 1
    datagrams.send(b"the last")
    assert datagrams.receive()[1] == b"the last"


@pytest.mark.usefixtures("room")
@pytest.mark.parametrize("way", TUNNELS + FLAT, ids=str)
def test_large_datagrams(lab, way):
    """Cut up by the client's kernel, and the answers by the backend's."""
    lost = packets(lab)["drops"]["fragment_unknown"]
    with Datagrams(lab, way.vip) as datagrams:
        sent = [numbered(n) for n in range(MANY)]
        for payload in sent:
            datagrams.send(payload)
        assert_each_is_answered_once(datagrams, sent)
    assert packets(lab)["drops"]["fragment_unknown"] == lost


@pytest.mark.parametrize("way", [way("vxlan-4in4"), way("vxlan-4in6")], ids=str)
def test_fragments_of_fragments(lab, way):
    """The client's fragments fill 1500 bytes: each is cut up once more, outside."""
    with Datagrams(lab, way.vip) as datagrams:
        sent = [numbered(n) for n in range(MANY)]
        for payload in sent:
            datagrams.send(payload)
        assert_each_is_answered_once(datagrams, sent)


def fragments(way, port, payload, number):
    """One datagram of the client as it is on the wire: bytes of IP packets."""
    udp = UDP(sport=port, dport=PORT) / Raw(payload)
    if way.inner == 4:
        whole = IP(src=CLIENT[4], dst=way.vip, id=number) / udp
        pieces = fragment(whole, fragsize=1200)
    else:
        header = IPv6ExtHdrFragment(id=number)
        whole = IPv6(src=CLIENT[6], dst=way.vip) / header / udp
        pieces = fragment6(whole, 1280)
    return [bytes(piece) for piece in pieces]


@pytest.fixture
def wire(lab, way):
    """wire(packet) sends the bytes of an IP packet from the client."""
    family = socket.AF_INET if way.inner == 4 else socket.AF_INET6
    with lab.inside("client"):
        raw = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)
    with raw:
        yield lambda packet: raw.sendto(packet, (way.vip, 0))


@pytest.mark.parametrize("way", TUNNELS + FLAT, ids=str)
def test_the_first_comes_last(lab, way, wire):
    lost = packets(lab)["drops"]["fragment_unknown"]
    with Datagrams(lab, way.vip) as datagrams:
        sent = [numbered(n) for n in range(MANY)]
        pieces = [fragments(way, datagrams.own[1], text, 7000 + n) for n, text in enumerate(sent)]
        for group in range(0, MANY, 10):
            for place in (-1, -2, 1, 0):  # of ten datagrams the last pieces, …, then the first
                for of_one in pieces[group : group + 10]:
                    assert len(of_one) == 4
                    wire(of_one[place])
        assert_each_is_answered_once(datagrams, sent)
    assert packets(lab)["drops"]["fragment_unknown"] == lost


@pytest.mark.parametrize("way", [way("ipip-4in4"), way("nat-6in6")], ids=str)
def test_a_first_that_never_comes(lab, way, wire):
    """Nobody is sent the rest."""
    lost = packets(lab)["drops"]["fragment_unknown"]
    forwarded = packets(lab)["forwarded"]
    for piece in fragments(way, 40000, numbered(0), 6999)[1:]:
        wire(piece)
    wait_until(
        lambda: packets(lab)["drops"]["fragment_unknown"] == lost + 3, "the rest to be dropped"
    )
    assert packets(lab)["forwarded"] == forwarded
