"""Frames that no stack would send. Each is counted under its reason and goes no further."""

import random
import socket

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw

from labkit import wait_until
from labkit.counters import packets
from labkit.traffic import VIP, get

CLIENT = "203.0.113.10"
ETHERNET = Ether(src="02:00:00:00:00:fe", dst="02:00:00:00:00:01")


@pytest.fixture
def inject(lab):
    """inject(frames): puts frames on the wire to the balancer, as the next router would."""
    with lab.inside("gateway"):
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    with wire:
        wire.bind(("gw-uplink", 0))

        def send(*frames):
            for frame in frames:
                wire.send(bytes(frame))

        yield send


def ip(payload=None, **fields):
    """A frame to the VIP; `fields` overrule what scapy would fill in."""
    header = IP(**{"src": CLIENT, "dst": VIP, **fields})
    return ETHERNET / header / (TCP(sport=1234, dport=80) if payload is None else payload)


def cut(frame, length):
    return bytes(frame)[:length]


MALFORMED = {
    "no IP header": cut(ip(), 14),
    "IP header cut short": cut(ip(), 33),
    "version 6 in IPv4": ip(version=6),
    "header length under 20": ip(ihl=4),
    "header longer than the packet": ip(ihl=15, len=40),
    "length beyond the frame": ip(len=1000),
    "length under the header": ip(len=19),
    "wrong checksum": ip(chksum=0x1234),
    "from the VIP itself": ip(src=VIP),
    "from multicast": ip(src="224.0.0.1"),
    "from broadcast": ip(src="255.255.255.255"),
    "TCP header cut short": ip(Raw(bytes(TCP(sport=1234, dport=80))[:19]), proto=6),
    "TCP offset under 20": ip(TCP(sport=1234, dport=80, dataofs=4)),
    "TCP offset beyond the packet": ip(TCP(sport=1234, dport=80, dataofs=15)),
    "UDP header cut short": ip(Raw(b"\x00\x07\x00\x07"), proto=17),
    "UDP length under 8": ip(UDP(sport=1234, dport=7, len=7)),
    "UDP length beyond the packet": ip(UDP(sport=1234, dport=7, len=100)),
    "wrong ICMP checksum": ip(ICMP(chksum=0x1234)),
    "a fragment that ends beyond 65535": ip(Raw(bytes(100)), proto=17, frag=8190),
}


@pytest.mark.parametrize("frame", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed(lab, inject, frame):
    before = packets(lab)
    inject(frame)
    wait_until(lambda: packets(lab)["received"] > before["received"], "the frame to be counted")
    after = packets(lab)
    assert after["drops"]["malformed"] == before["drops"]["malformed"] + 1
    assert after["forwarded"] == before["forwarded"]


def test_not_for_us(lab, inject):
    """ARP and addresses that are no VIP are the kernel's."""
    before = packets(lab)
    inject(ETHERNET / ARP(pdst="192.0.2.9"), ip(dst="192.0.2.9"))
    wait_until(lambda: packets(lab)["punted"] == before["punted"] + 2, "both to be punted")


def test_a_later_fragment_without_its_first(lab, inject):
    before = packets(lab)["drops"]["fragment_unknown"]
    inject(ip(Raw(bytes(64)), proto=17, frag=100))
    wait_until(
        lambda: packets(lab)["drops"]["fragment_unknown"] == before + 1, "the fragment's drop"
    )


def test_noise(lab, inject):
    """Random bytes, and good frames with random bytes in them: all counted, and service goes on."""
    random_bytes = random.Random(20240607)
    before = packets(lab)["received"]
    sent = 0
    for _ in range(500):
        frame = bytearray(bytes(ip()))
        for _ in range(random_bytes.randrange(1, 6)):
            frame[random_bytes.randrange(12, len(frame))] = random_bytes.randrange(256)
        noise = random_bytes.randbytes(random_bytes.randrange(14, 1500))
        inject(frame, frame[: random_bytes.randrange(14, len(frame))], noise)
        sent += 3
        if sent % 60 == 0:  # no faster than the device takes them, or it would lose some
            wait_until(lambda: packets(lab)["received"] >= before + sent, f"{sent} frames")
    assert get(lab).status == 200
