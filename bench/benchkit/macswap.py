"""The whole daemon beside the least that a program of DPDK can do.

dpdk-testpmd swaps the two MAC addresses of every frame; guidewayd finds the service, the connection
and the backend and puts each packet into a tunnel (ipip). Both are fed by the same driver from the
same capture, again and again, by one worker on the same core; what they send the driver frees.
"""

import dataclasses
import ipaddress
import os
import pathlib
import random
import struct
import tempfile
import time

from labkit import LabError

from . import daemon, machine, report
from .daemon import Guidewayd, Testpmd

FLOWS = 1000
BACKENDS = 1000
_VIP = "198.51.100.10"
_CLIENTS = ipaddress.ip_network("198.18.0.0/15")  # RFC 2544: for benchmarks
_OWN_MAC, _ROUTER_MAC = "02:00:00:00:00:01", "02:00:00:00:00:fe"
_FRAME_BYTES = 60  # 64 on the wire, where the frame check sequence follows
_BUFFERS = 6144  # as many as guidewayd takes for one interface and one worker
_HUGE_PAGES = 192  # 384 MiB: either program takes less
_WARM_PACKETS = 1000 * FLOWS
_WARM_SECONDS = 2  # by then no connection is new: one is unconfirmed for a second


@dataclasses.dataclass
class Run:
    """One run of one program."""

    packets_per_second: float
    received: int  # in the window
    sent: int


def measure(build, repetitions, seconds, progress):
    """Lets both run in turn; the result as a mapping of plain values. `progress` is called with the
    number and the two Runs of each repetition."""
    machine.need_root()
    daemon.check(build)
    machine.install("dpdk-dev")
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise LabError("This needs two cores: one for the worker and one for everything else.")
    control, worker = cores[0], cores[-1]
    pairs = []
    with machine.huge_pages(_HUGE_PAGES), tempfile.TemporaryDirectory() as folder:
        capture = pathlib.Path(folder) / "flows.pcap"
        capture.write_bytes(_capture())
        device = f"net_pcap0,rx_pcap={capture},infinite_rx=1"
        config = _config(device, worker)
        for number in range(1, repetitions + 1):
            with Testpmd(device, control, worker, _BUFFERS) as testpmd:
                theirs = _run(testpmd, seconds)
                _check_sent("testpmd", theirs)
            with Guidewayd(build, config) as guidewayd:
                ours = _run(guidewayd, seconds)
                _check_forwarded(guidewayd)
                _check_sent("guidewayd", ours)
            progress(number, theirs, ours)
            pairs.append((theirs, ours))
    testpmd, guidewayd = (
        report.median(pair[i].packets_per_second for pair in pairs) for i in (0, 1)
    )
    return {
        "runs": [
            {"testpmd": dataclasses.asdict(theirs), "guidewayd": dataclasses.asdict(ours)}
            for theirs, ours in pairs
        ],
        "median_packets_per_second": {"testpmd": testpmd, "guidewayd": guidewayd},
        "ratio": guidewayd / testpmd,
    }


def _run(program, seconds):
    """Measures it once it is warm: every flow has been seen many times, for long enough."""
    program.wait(lambda: program.packets()[1] >= _WARM_PACKETS, "to become warm")
    time.sleep(_WARM_SECONDS)
    began, received, sent = program.packets()
    time.sleep(seconds)  # the window
    ended, received_then, sent_then = program.packets()
    received, sent = received_then - received, sent_then - sent
    return Run(sent / (ended - began), received, sent)


def _check_sent(name, run):
    # They are not read at the same moment.
    if run.sent == 0 or abs(run.received - run.sent) > run.received / 100:
        raise LabError(f"{name} received {run.received} packets and sent {run.sent}.")


def _check_forwarded(guidewayd):
    """That all was forwarded, by the flow table: else the rate is one of something else."""
    packets = guidewayd.ask("status")["packets"]
    others = {name: int(packets[name]) for name in ("replied", "punted", "dropped")}
    if int(packets["forwarded"]) == 0 or any(others.values()):
        drops = {reason: n for reason, n in packets["drops"].items() if n != "0"}
        raise LabError(f"guidewayd did not forward everything: {others}, drops {drops}.")
    [service] = guidewayd.ask("get", "services")["services"]
    opened, known = int(service["new_flows"]), int(service["active_flows"])
    if (opened, known) != (FLOWS, FLOWS):
        raise LabError(
            f"guidewayd opened {opened} connections and knows {known}, of {FLOWS} in the capture."
        )


def _config(device, worker):
    first = ipaddress.ip_address("10.0.0.1")
    return {
        "fleet": {"hash_seed": 1},
        "dataplane": {"workers": [worker], "idle": "poll"},
        "interfaces": [{"name": "uplink", "device": device, "mac": _OWN_MAC}],
        "routes": [{"prefix": "0.0.0.0/0", "interface": "uplink", "mac": _ROUTER_MAC}],
        "tunnel": {"source_ipv4": "192.0.2.1"},
        "services": [
            {
                "name": "web",
                "vips": [_VIP],
                "protocol": "tcp",
                "ports": [80],
                "forwarding": "ipip",
                "backends": [
                    {"name": f"web-{i}", "address": str(first + i)} for i in range(BACKENDS)
                ],
            }
        ],
    }


def _capture():
    """A pcap file with one packet of each flow, in no order: TCP acknowledgements to the VIP."""
    chance = random.Random(1)  # the same file every time
    addresses = chance.sample(range(_CLIENTS.num_addresses), FLOWS)
    frames = [
        _frame(_CLIENTS[address], chance.randrange(1024, 65536), chance.randrange(1 << 32))
        for address in addresses
    ]
    header = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    record = struct.pack("<IIII", 0, 0, _FRAME_BYTES, _FRAME_BYTES)
    return header + b"".join(record + frame for frame in frames)


def _frame(client, port, sequence):
    macs = bytes.fromhex((_OWN_MAC + _ROUTER_MAC).replace(":", ""))
    addresses = client.packed + ipaddress.ip_address(_VIP).packed

    def tcp(checksum):
        return struct.pack("!HHIIBBHHH", port, 80, sequence, 1, 5 << 4, 0x10, 1024, checksum, 0)

    def ip(checksum):
        return struct.pack("!BBHHHBBH", 0x45, 0, 40, 0, 0x4000, 64, 6, checksum) + addresses

    pseudo_header = addresses + struct.pack("!HH", 6, 20)
    packet = ip(_checksum(ip(0))) + tcp(_checksum(pseudo_header + tcp(0)))
    return (macs + b"\x08\x00" + packet).ljust(_FRAME_BYTES, b"\0")


def _checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF
