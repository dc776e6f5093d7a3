"""Every way to the backends of the lab every-way: a pair of services for each, and their clients.

A test takes part by `pytestmark = IN_EVERY_WAY`. The daemon there starts with all the services, so
that going from one way to the next costs nothing: each has its own VIP, and with it its own path
MTU in the client's kernel.
"""

import contextlib
import dataclasses
import json
import pathlib
import socket
import threading

import pytest
import yaml

from labkit import Options, namespace

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]

PORT = 7
NAT_PORT = 8007  # of a nat backend, for TCP
NARROW_MTU = 1400  # on the way to the far backends
CLIENT = {4: "203.0.113.10", 6: "2001:db8:c::10"}
BACKENDS = ("web-1", "web-2")

SO_RCVBUFFORCE = 33  # Python has no name for it

IP_HEADER = {4: 20, 6: 40}
SHIM = {"ipip": 0, "gre": 4, "gue": 8 + 4, "vxlan": 8 + 8 + 14}


@dataclasses.dataclass(frozen=True)
class Way:
    """How a service's packets come to its backends."""

    forwarding: str
    inner: int  # the VIP's family, 4 or 6
    outer: int  # the backends'
    far: bool = False  # behind the router

    def __str__(self):
        place = "-far" if self.far else ""
        return f"{self.forwarding}-{self.inner}in{self.outer}{place}"

    @property
    def vip(self):
        number = 11 + WAYS.index(self)
        return f"198.51.100.{number}" if self.inner == 4 else f"2001:db8:100::{number:x}"

    @property
    def is_tunnel(self):
        return self.forwarding in SHIM

    @property
    def mtu(self):
        """Of the client's packets: what a narrower path leaves for them."""
        path = NARROW_MTU if self.far else 1500
        return path - IP_HEADER[self.outer] - SHIM[self.forwarding] if self.is_tunnel else path

    def address(self, n):
        """Of web-n."""
        network = 2 if self.far else 1
        host = f"2{n}" if self.forwarding == "nat" else f"1{n}"
        return f"10.{network}.0.{host}" if self.outer == 4 else f"2001:db8:{network}::{host}"

    @property
    def settings(self):
        """The value of `forwarding`."""
        if self.forwarding != "vxlan":
            return self.forwarding
        return {"vxlan": {"vni": 77, "inner_mac": "02:00:00:00:00:0a"}}

    def services(self):
        """One of TCP, one of UDP."""
        for protocol in ("tcp", "udp"):
            port = {"port": NAT_PORT} if (self.forwarding, protocol) == ("nat", "tcp") else {}
            yield {
                "name": f"{self}-{protocol}",
                "vips": [self.vip],
                "protocol": protocol,
                "ports": [PORT],
                "forwarding": self.settings,
                "health_check": {"tcp": {"port": PORT}, "interval": "2s"},
                "backends": [
                    {"name": name, "address": self.address(n), **port}
                    for n, name in enumerate(BACKENDS, 1)
                ],
            }


TUNNELS = [Way(kind, inner, outer) for kind in SHIM for inner in (4, 6) for outer in (4, 6)]
FLAT = [Way(kind, family, family) for kind in ("direct", "nat") for family in (4, 6)]
FAR = [Way("ipip", 4, 4, True), Way("gue", 6, 6, True), Way("gre", 4, 6, True)]
WAYS = TUNNELS + FLAT + FAR


def way(name):
    """By its name, such as ipip-4in4."""
    return next(w for w in WAYS if str(w) == name)


def ways(*names):
    """Parametrizes a test with some of them."""
    return pytest.mark.parametrize("way", [way(name) for name in names], ids=str)


EVERY_WAY = Options(topology=str(REPOSITORY / "tools/labs/every-way.toml"))
IN_EVERY_WAY = pytest.mark.parametrize("running_lab", [EVERY_WAY], ids=["every-way"], indirect=True)


def configure(lab):
    """Has the daemon's own file serve all of WAYS, from the next apply on."""
    config = lab.config()
    config["services"] = [service for w in WAYS for service in w.services()]
    lab.config_file("balancer").write_text(yaml.safe_dump(config, sort_keys=False))


def forget_paths(lab):
    """Has the daemon forget what it learnt of paths, and of connections."""
    lab.kill("balancer/guidewayd")
    lab.start("balancer/guidewayd")


# Clients.


@dataclasses.dataclass
class Greeting:
    """Who answers, and whom it sees."""

    backend: str
    address: str
    port: int

    @classmethod
    def of(cls, line):
        backend, address, port = line.decode().split()
        return cls(backend, address, int(port))


class Connection:
    """A TCP connection to the echo service behind a VIP."""

    def __init__(self, lab, vip, source="", source_port=0, timeout_s=5):
        with lab.inside("client"):
            own = (source, source_port)
            self._socket = socket.create_connection((vip, PORT), timeout_s, own)
        self._file = self._socket.makefile("rb")
        self.own = self._socket.getsockname()[:2]
        self.greeting = Greeting.of(self._file.readline())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()
        self._socket.close()

    def echo(self, data):
        """Sends the data, and at the same time receives as much; returns it."""

        def send():
            with contextlib.suppress(OSError):  # the reader will see it
                self._socket.sendall(data)

        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        received = self._file.read(len(data))
        sender.join()
        return received


class Datagrams:
    """A UDP socket of the client, to the echo service behind a VIP."""

    def __init__(self, lab, vip, timeout_s=5):
        with lab.inside("client"):
            self._socket = socket.socket(
                socket.AF_INET6 if ":" in vip else socket.AF_INET, socket.SOCK_DGRAM
            )
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 4 << 20)
        self._socket.settimeout(timeout_s)
        self._socket.connect((vip, PORT))  # takes answers from the VIP alone
        self.own = self._socket.getsockname()[:2]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self._socket.close()

    def send(self, payload):
        self._socket.send(payload)

    def receive(self):
        """(Greeting, payload) of the next answer; TimeoutError if none comes."""
        line, _, payload = self._socket.recv(65535).partition(b"\n")
        return Greeting.of(line), payload


def kernel_counters(lab, node):
    """{name: value} of a node's kernel, such as IpReasmOKs and Ip6ReasmOKs."""
    with lab.inside(node):
        folder = pathlib.Path("/proc/thread-self/net")
        rows = [line.split() for line in (folder / "snmp").read_text().splitlines()]
        counters = [line.split() for line in (folder / "snmp6").read_text().splitlines()]
    counters = {name: int(value) for name, value in counters}
    for names, values in zip(rows[::2], rows[1::2]):
        group = names[0].rstrip(":")
        counters.update({group + name: int(n) for name, n in zip(names[1:], values[1:])})
    return counters


def known_mtu(address, node="client", source=None):
    """Of the path to an address, as the node's kernel has learnt it; None if it has not."""
    words = ["from", source] if source else []
    [route] = json.loads(namespace.ip(node, "-j", "route", "get", address, *words))
    [metrics] = route.get("metrics") or [{}]
    return metrics.get("mtu")


def forget_mtus(lab):
    """Has every kernel forget what it learnt of paths."""
    for node in lab.nodes:
        namespace.ip(node, "route", "flush", "cache")
        namespace.ip(node, "-6", "route", "flush", "cache")
        namespace.ip(node, "tcp_metrics", "flush")
