"""What there is room for on the way, and who is told of it: with the TCP of real kernels."""

import os

import pytest

from ways import (
    BACKENDS,
    CLIENT,
    FAR,
    IN_EVERY_WAY,
    NARROW_MTU,
    WAYS,
    Connection,
    forget_mtus,
    forget_paths,
    kernel_counters,
    known_mtu,
    ways,
)
from labkit import namespace
from labkit.counters import miscounted, packets

pytestmark = IN_EVERY_WAY

MEGABYTES = os.urandom(4 << 20)


@pytest.fixture(autouse=True)
def unlearned(lab):
    forget_mtus(lab)


@pytest.fixture
def without_discovery(running_lab):
    """The client's kernel sends everything without DF."""

    def switch(value):
        argv = ["sysctl", "-qw", f"net.ipv4.ip_no_pmtu_disc={value}"]
        namespace.run(running_lab.command("client", argv))

    switch(1)
    yield
    switch(0)


@pytest.fixture
def narrower(running_lab):
    """narrower(mtu) changes the link to the far backends."""

    def switch(mtu):
        for n, name in enumerate(BACKENDS, 1):
            namespace.ip("gateway", "link", "set", f"narrow-{n}", "mtu", str(mtu))
            namespace.ip(name, "link", "set", "eth1", "mtu", str(mtu))

    yield switch
    switch(NARROW_MTU)
    assert miscounted(running_lab) == [], "before the counters start anew"
    forget_paths(running_lab)


@pytest.fixture
def narrow_client():
    """Between gateway and client only packets of 1400 bytes go the client's way."""
    for address in CLIENT.values():
        namespace.ip("gateway", "route", "add", address, "dev", "client", "mtu", "lock", "1400")
    yield 1400
    for address in CLIENT.values():
        namespace.ip("gateway", "route", "delete", address, "dev", "client")


@pytest.mark.usefixtures("without_discovery")
@ways("vxlan-4in4", "vxlan-4in6", "direct-4in4", "nat-4in4")
def test_a_sender_that_does_not_ask(lab, way):
    """Nothing is said to it. Its packets arrive, by way of fragments outside if it must be; the
    backend's kernel makes them whole before its VXLAN device sees them."""

    def reassembled():
        name = "IpReasmOKs" if way.outer == 4 else "Ip6ReasmOKs"
        return sum(kernel_counters(lab, node)[name] for node in BACKENDS)

    replied, whole = packets(lab)["replied"], reassembled()
    with Connection(lab, way.vip) as connection:
        assert connection.echo(MEGABYTES) == MEGABYTES
    assert known_mtu(way.vip) is None
    assert packets(lab)["replied"] == replied
    if way.is_tunnel:
        assert reassembled() - whole > len(MEGABYTES) / 1500
    else:
        assert reassembled() == whole


@pytest.mark.parametrize("way", FAR, ids=str)
def test_a_path_that_becomes_narrower(lab, way, narrower):
    """A router on the way to the backends tells the balancer, the balancer tells the client."""
    with Connection(lab, way.vip) as connection:
        assert connection.echo(MEGABYTES) == MEGABYTES
        assert known_mtu(way.vip) == way.mtu
        narrower(1360)
        assert connection.echo(MEGABYTES) == MEGABYTES
        assert known_mtu(way.vip) == way.mtu - 40
    with Connection(lab, way.vip) as connection:
        assert connection.echo(MEGABYTES) == MEGABYTES


@pytest.mark.usefixtures("narrower")
@ways("ipip-4in4-far", "gre-4in6-far")
def test_a_router_tells_one_of_many_sources(lab, way):
    """With spread_* it answers to an address that is nobody's, yet the balancer's."""
    config = lab.config()
    config["tunnel"] = {"spread_ipv4": "172.31.0.0/16", "spread_ipv6": "2001:db8:5::/64"} | {
        key: config["tunnel"][key] for key in ("source_ipv4", "source_ipv6")
    }
    assert lab.apply(config).returncode == 0
    with Connection(lab, way.vip) as connection:
        assert connection.echo(MEGABYTES) == MEGABYTES
    assert known_mtu(way.vip) == way.mtu


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_narrow_path_to_the_client(lab, way, narrow_client):
    """A router there tells the VIP, and so the balancer, which passes it on to the one backend
    that the connection has."""
    with Connection(lab, way.vip) as connection:
        assert connection.echo(MEGABYTES) == MEGABYTES
        told = connection.greeting.backend
    for n, name in enumerate(BACKENDS, 1):
        source = way.address(n) if way.forwarding == "nat" else way.vip
        known = known_mtu(CLIENT[way.inner], name, source)
        assert known == (narrow_client if name == told else None)
