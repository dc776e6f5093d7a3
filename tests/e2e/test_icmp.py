"""What the balancer answers itself, and the errors about connections that it passes on."""

import contextlib
import functools
import signal
import subprocess

import pytest

from ways import BACKENDS, IN_EVERY_WAY, WAYS, Datagrams, kernel_counters, way, ways
from labkit import namespace, wait_until
from labkit.counters import packets

pytestmark = IN_EVERY_WAY


def ping(lab, address, *options, count=5):
    argv = ["ping", "-n", "-c", str(count), "-i", "0.01", "-W", "2", *options, address]
    command = lab.command("client", argv)
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("size", [0, 56, 1400])
@ways("ipip-4in4", "ipip-6in6", "nat-4in4", "nat-6in6", "vxlan-4in6", "vxlan-6in4")
def test_ping(lab, way, size):
    """The same answer whatever is behind the VIP, and not from there."""
    before = packets(lab)
    done = ping(lab, way.vip, "-s", str(size))
    assert done.returncode == 0, done.stdout
    assert "5 received, 0% packet loss" in done.stdout
    assert "ttl=63" in done.stdout, "64, and one router between"
    after = packets(lab)
    assert after["replied"] == before["replied"] + 5
    assert after["forwarded"] == before["forwarded"]


def test_ping_is_answered_so_often(lab):
    config = lab.config()
    config["dataplane"]["replies_per_second"] = 10
    assert lab.apply(config).returncode == 0
    before = packets(lab)
    ping(lab, way("direct-4in4").vip, "-W", "0.1", count=50)
    after = packets(lab)
    replied = after["replied"] - before["replied"]
    limited = after["drops"]["rate_limited"] - before["drops"]["rate_limited"]
    assert replied >= 10 and limited > 0 and replied + limited == 50


def counted(lab, way, name):
    """A counter of ICMP, by backend."""
    name = ("Icmp" if way.inner == 4 else "Icmp6") + name
    return {node: kernel_counters(lab, node)[name] for node in BACKENDS}


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_an_error_about_an_answer_reaches_who_gave_it(lab, way):
    """The client has gone when the answer comes; its kernel tells the VIP: port unreachable."""
    errors = functools.partial(counted, lab, way, "InDestUnreachs")
    before = errors()
    with Datagrams(lab, way.vip) as datagrams:
        datagrams.send(b"who are you?")
        backend = datagrams.receive()[0].backend
        lab.signal(f"{backend}/echo", signal.SIGSTOP)
        try:
            datagrams.send(b"anybody there?")
            datagrams.close()
        finally:
            lab.signal(f"{backend}/echo", signal.SIGCONT)
    wait_until(lambda: errors()[backend] > before[backend], "the error to arrive")
    assert errors() == before | {backend: before[backend] + 1}


def new_flows(lab, way):
    backends = lab.ask("get", "backends")["backends"]
    return {b["name"]: int(b["new_flows"]) for b in backends if b["service"] == f"{way}-udp"}


@pytest.fixture
def short_lived(running_lab):
    """What the backends send gets no further than the first router."""

    def switch(hops):
        for node in BACKENDS:
            for key in ("net.ipv4.ip_default_ttl", "net.ipv6.conf.eth0.hop_limit"):
                argv = ["sysctl", "-qw", f"{key}={hops}"]
                namespace.run(running_lab.command(node, argv))

    switch(1)
    yield
    switch(64)


@pytest.mark.usefixtures("short_lived")
@ways("ipip-4in4", "gre-6in4", "gue-4in6", "vxlan-6in6", "nat-4in4", "nat-6in6")
def test_a_router_tells_the_backend_whose_answer_went_too_far(lab, way):
    errors = functools.partial(counted, lab, way, "InTimeExcds")
    before = errors()
    with contextlib.ExitStack() as stack:
        many = [stack.enter_context(Datagrams(lab, way.vip)) for _ in range(20)]
        opened = new_flows(lab, way)
        for datagrams in many:
            datagrams.send(b"anybody there?")
        wait_until(
            lambda: sum(errors().values()) == sum(before.values()) + len(many), "all the errors"
        )
    opened = {node: n - opened[node] for node, n in new_flows(lab, way).items()}
    assert {node: n - before[node] for node, n in errors().items()} == opened
