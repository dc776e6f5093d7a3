"""What the balancer answers itself, and the errors about connections that it passes on."""

import signal
import subprocess

import pytest

from ways import BACKENDS, CLIENT, IN_EVERY_WAY, WAYS, Datagrams, kernel_counters, way, ways
from labkit import wait_until
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


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_an_error_about_an_answer_reaches_who_gave_it(lab, way):
    """The client has gone when the answer comes. Its kernel says so to the VIP: port unreachable."""
    name = "IcmpInDestUnreachs" if way.inner == 4 else "Icmp6InDestUnreachs"

    def errors():
        return {node: kernel_counters(lab, node)[name] for node in BACKENDS}

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
