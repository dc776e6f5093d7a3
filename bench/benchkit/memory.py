"""What guidewayd keeps in memory, by how it grows.

One daemon is started for each Size and looked at when it serves. Costs are differences between two
that differ in one thing, so they contain what the allocator has not given back of what loading the
configuration took, and the daemon's own copy of the configuration.
"""

import dataclasses
import ipaddress
import os
import pathlib

from labkit import LabError

from . import daemon, machine
from .daemon import Guidewayd

_HUGE_PAGES = 192  # 384 MiB: the largest Size takes less
_KINDS = ("VmRSS", "RssAnon", "HugetlbPages")


@dataclasses.dataclass(frozen=True)
class Size:
    """Of a configuration: `backends` in all, the same number in each service."""

    services: int = 1000
    backends: int = 10_000
    table_size: int = 65537
    flows: int = 4 << 20


FULL = Size()
# With a hundred slots a backend, as many as `guideway check` asks for: each service with fewer has
# a warning of its own, which takes memory, too.
SMALL_TABLES = dataclasses.replace(FULL, table_size=1009)
FEWER_BACKENDS = dataclasses.replace(SMALL_TABLES, backends=5000)
MORE_SERVICES = dataclasses.replace(FEWER_BACKENDS, services=5000)
MORE_FLOWS = dataclasses.replace(SMALL_TABLES, flows=8 << 20)


def measure(build, progress):
    """The result as a mapping of plain values, in bytes. `progress` is called with each Size and
    what its daemon keeps, {kind: bytes}, as /proc/PID/status calls the kinds."""
    machine.need_root()
    daemon.check(build)
    kept = {}
    with machine.huge_pages(_HUGE_PAGES):
        for size in (FULL, SMALL_TABLES, FEWER_BACKENDS, MORE_SERVICES, MORE_FLOWS):
            kept[size] = _kept(build, size)
            progress(size, kept[size])

    def cost(count, more, less, kind="VmRSS"):
        """Of one of what `count` counts, by the difference that more of it make."""
        return (kept[more][kind] - kept[less][kind]) / (count(more) - count(less))

    slot = cost(lambda size: size.services * size.table_size, FULL, SMALL_TABLES)
    backend = cost(lambda size: size.backends, SMALL_TABLES, FEWER_BACKENDS)
    service = cost(lambda size: size.services, MORE_SERVICES, FEWER_BACKENDS)
    flow = cost(lambda size: size.flows, MORE_FLOWS, SMALL_TABLES, "HugetlbPages")
    return {
        "sizes": [
            {**dataclasses.asdict(size), **{kind: kept[size][kind] for kind in _KINDS}}
            for size in kept
        ],
        # What is in huge pages beside the flow table, packet buffers above all, counts as well.
        "beside_flow_tables": kept[FULL]["VmRSS"] + kept[FULL]["HugetlbPages"] - FULL.flows * flow,
        "service_beside_table": service - slot * MORE_SERVICES.table_size,
        "backend": backend,
        "table_slot": slot,
        "flow_entry": flow,
    }


def _kept(build, size):
    with Guidewayd(build, _config(size)) as guidewayd:
        if guidewayd.ask("status")["state"] != "serving":
            raise LabError("guidewayd does not serve.")
        status = pathlib.Path(f"/proc/{guidewayd.pid}/status").read_text()
        # Not before: a long answer leaves the daemon with more memory than it had.
        services = guidewayd.ask("get", "services")["services"]
        up = sum(service["backends_up"] for service in services)
        if (len(services), up) != (size.services, size.backends):
            raise LabError(f"guidewayd serves {len(services)} services, {up} backends are up.")
    lines = dict(line.split(":", 1) for line in status.splitlines())
    return {kind: int(lines[kind].split()[0]) << 10 for kind in _KINDS}


def _config(size):
    vips = ipaddress.ip_network("198.18.0.0/15")
    backends = ipaddress.ip_network("10.0.0.0/8")
    each = size.backends // size.services
    return {
        "fleet": {"hash_seed": 1},
        "dataplane": {"workers": [max(os.sched_getaffinity(0))], "flows_per_worker": size.flows},
        "interfaces": [{"name": "uplink", "device": "net_null0,no-rx=1"}],
        "routes": [{"prefix": "0.0.0.0/0", "interface": "uplink", "mac": "02:00:00:00:00:fe"}],
        "tunnel": {"source_ipv4": "192.0.2.1"},
        "services": [
            {
                "name": f"service-{s}",
                "vips": [str(vips[1 + s])],
                "protocol": "tcp",
                "ports": [443],
                "forwarding": "ipip",
                "table_size": size.table_size,
                "backends": [
                    {"name": f"backend-{b}", "address": str(backends[1 + b])}
                    for b in range(s * each, (s + 1) * each)
                ],
            }
            for s in range(size.services)
        ],
    }
