"""Who is kept out, how many come in, and what a flood does to those who are in."""

import contextlib
import os
import random
import select
import socket
import struct
import subprocess
import threading
import time

import pytest

from ways import IN_EVERY_WAY, PORT, Connection, way
from labkit import wait_until
from labkit.counters import packets

pytestmark = IN_EVERY_WAY


# Access.


@pytest.mark.parametrize(
    "name, denied, allowed",
    [
        ("ipip-4in4", "203.0.113.200", "203.0.113.201"),
        ("gue-6in4", "2001:db8:c:1::bad", "2001:db8:c:1::600d"),
    ],
)
def test_access(lab, name, denied, allowed):
    """Whoever is denied is not answered, by TCP or by ping; all others are."""
    vip = way(name).vip
    wider = "203.0.113.200/29" if ":" not in denied else "2001:db8:c:1::/64"
    config = lab.config()
    config["access"] = {"deny": [wider], "allow": [allowed]}
    assert lab.apply(config).returncode == 0
    before = packets(lab)["drops"]["access_denied"]
    with pytest.raises(TimeoutError):
        Connection(lab, vip, source=denied, timeout_s=0.3)
    ping = ["ping", "-n", "-c", "1", "-W", "0.2", "-I", denied, vip]
    assert subprocess.run(lab.command("client", ping), capture_output=True).returncode == 1
    assert packets(lab)["drops"]["access_denied"] >= before + 2
    for source in (allowed, ""):
        with Connection(lab, vip, source=source) as connection:
            assert connection.echo(b"hello") == b"hello"


def test_who_is_denied_later_is_cut_off(lab):
    vip = way("gre-4in4").vip
    with Connection(lab, vip, source="203.0.113.200", timeout_s=0.5) as connection:
        assert connection.echo(b"hello") == b"hello"
        config = lab.config()
        config["access"] = {"deny": ["203.0.113.200"]}
        assert lab.apply(config).returncode == 0
        with pytest.raises(TimeoutError):
            connection.echo(b"hello again")


# New connections a second.


@pytest.mark.parametrize("name", ["direct-4in4", "nat-6in6"])
def test_new_connections_a_second(lab, name):
    limit, tried = 10, 60
    vip = way(name).vip
    config = lab.config()
    [service] = [s for s in config["services"] if s["name"] == f"{name}-tcp"]
    service["limits"] = {"new_flows_per_second": limit}
    assert lab.apply(config).returncode == 0
    dropped = packets(lab)["drops"]["rate_limited"]

    began = time.monotonic()
    with contextlib.ExitStack() as stack, lab.inside("client"):
        family = socket.AF_INET6 if ":" in vip else socket.AF_INET
        sockets = [stack.enter_context(socket.socket(family)) for _ in range(tried)]
        for one in sockets:
            one.setblocking(False)
            one.connect_ex((vip, PORT))
        wait_until(
            lambda: packets(lab)["drops"]["rate_limited"] >= dropped + tried - 2 * limit,
            "most of them to be dropped",
        )

        def connected():
            return len(select.select([], sockets, [], 0)[1])

        wait_until(lambda: connected() >= limit, "as many as may")
        passed = connected()
        passed_s = time.monotonic() - began
    assert passed <= limit * (1 + passed_s) + 1
    with Connection(lab, way("direct-6in6").vip) as connection:
        assert connection.echo(b"other services") == b"other services"


# A flood.

FLOOD_SOURCES = "100.64.0.0"  # /10: the gateway sends nothing there
BATCH = 500


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def syn(source, port, vip):
    """The bytes of an IP packet; the kernel fills in its header checksum."""
    addresses = source + socket.inet_aton(vip)
    tcp = struct.pack("!HHIIBBHHH", port, PORT, 1, 0, 5 << 4, 2, 65535, 0, 0)
    tcp_sum = checksum(addresses + struct.pack("!HH", socket.IPPROTO_TCP, len(tcp)) + tcp)
    tcp = tcp[:16] + struct.pack("!H", tcp_sum) + tcp[18:]
    return struct.pack("!BBHHHBBH", 0x45, 0, 40, 0, 0, 64, 6, 0) + addresses + tcp


def flood(lab, vip, count):
    """Sends this many SYNs, each from another client, as fast as the balancer takes them."""
    dice = random.Random(20260101)
    network = struct.unpack("!I", socket.inet_aton(FLOOD_SOURCES))[0]
    with lab.inside("client"):
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    with raw:
        for _ in range(count // BATCH):
            before = packets(lab)["received"]
            for _ in range(BATCH):
                source = struct.pack("!I", network | dice.getrandbits(22))
                raw.sendto(syn(source, dice.randrange(1024, 65536), vip), (vip, 0))
            wait_until(lambda: packets(lab)["received"] >= before + BATCH, "the flood to arrive")


class Traffic(threading.Thread):
    """A connection on which something goes to and fro until `finish`, save for the pauses; then
    `error` says what went wrong, if anything did."""

    PIECE = os.urandom(20000)

    def __init__(self, lab, name):
        super().__init__(daemon=True)
        self._connection = Connection(lab, way(name).vip, timeout_s=20)
        self.backend = self._connection.greeting.backend
        self._second = time.monotonic() + 1.1
        self._over = threading.Event()
        self._may_go_on = threading.Event()
        self._may_go_on.set()
        self.rounds = 0
        self.error = ""
        self.start()

    def wait_confirmed(self):
        """Until the flow table keeps it, come what may: a packet came a second after the first."""
        wait_until(lambda: time.monotonic() > self._second, "the connection to be a second old")
        self.wait_going_on()

    def pause(self):
        self._may_go_on.clear()

    def go_on(self):
        self._may_go_on.set()

    def wait_going_on(self):
        rounds = self.rounds
        wait_until(lambda: self.error or self.rounds > rounds + 1, "the connection to go on")

    def run(self):
        try:
            while not self._over.is_set():
                self._may_go_on.wait()
                if self._connection.echo(self.PIECE) != self.PIECE:
                    raise ConnectionError("cut off, or garbled")
                self.rounds += 1
        except OSError as error:
            self.error = f"{type(error).__name__}: {error}"

    def finish(self):
        self._over.set()
        self.join()
        self._connection.__exit__()


@pytest.mark.parametrize("name", ["ipip-4in4", "gue-4in6"])
def test_a_flood_of_syns(lab, name):
    """It fills the flow table and no more than that; connections that are in it go on, or are
    there when they wake up. Backends are drained meanwhile: who is not found in the table is chosen
    anew, goes elsewhere, and is reset."""

    def flows():
        [worker] = lab.ask("status")["workers"]
        return int(worker["flows"]), int(worker["flow_capacity"])

    names = [name, "nat-4in4", "direct-6in6", "vxlan-6in4", name] * 4
    connections = [Traffic(lab, name) for name in names]
    assert "web-1" in {connection.backend for connection in connections}
    for connection in connections:
        connection.wait_confirmed()
    for connection in connections[::2]:
        connection.pause()
    for each in dict.fromkeys(names):
        lab.ask("drain", f"{each}-tcp/web-1")
    _, capacity = flows()
    flood(lab, way(name).vip, 3 * capacity)
    held, _ = flows()
    assert 0.5 * capacity < held <= capacity
    for connection in connections:
        connection.go_on()
        connection.wait_going_on()
        connection.finish()
    assert [connection.error for connection in connections] == [""] * len(names)
    with Connection(lab, way(name).vip) as connection:
        assert connection.greeting.backend == "web-2"
