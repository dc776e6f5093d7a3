"""Guideway beside other balancers, each in turn in the same place of the lab peers.toml.

A request takes these ways; `─` is a hop that it makes in both directions:

  direct     client ─ gateway ─ web-N
  Guideway   client ─ gateway → balancer → gateway → web-N, and back by the gateway alone
  others     client ─ gateway ─ balancer ─ gateway ─ web-N
"""

import contextlib
import dataclasses
import os
import pathlib
import re
import time

import yaml

from labkit import Lab, LabError, Options, namespace
from labkit.counters import packets

from . import machine, report

CONNECTIONS = 64
_DAEMON = "balancer/guidewayd"


@dataclasses.dataclass(frozen=True)
class Way:
    name: str
    vip: str
    node: str | None = None  # that the balancer's processes run on, if it has any
    idle: str | None = None  # of guidewayd


DIRECT = Way("direct", "198.51.100.14")
WAYS = [
    DIRECT,
    Way("Guideway, idle: backoff", "198.51.100.10", "balancer", "backoff"),
    Way("Guideway, idle: poll", "198.51.100.10", "balancer", "poll"),
    Way("HAProxy, mode tcp", "198.51.100.11", "haproxy"),
    Way("nginx, stream", "198.51.100.12", "nginx"),
    Way("nftables, DNAT", "198.51.100.13"),
]


@dataclasses.dataclass
class Run:
    """One way, once. Times are of the processor, in microseconds a request."""

    requests_per_second: float  # CONNECTIONS at a time
    balancer_us: float | None  # of the balancer's processes; None: it has none
    machine_us: float  # of everybody
    idle_cores: float  # that nobody used meanwhile
    latency_us: float  # median, of one connection alone, with a core for the balancer


def measure(build, repetitions, seconds, progress):
    """Tries each way `repetitions` times in turn; the result as a mapping of plain values.
    `progress` is called with the number of a repetition, the Way and its Run."""
    machine.need_root()
    machine.install("haproxy", "libnginx-mod-stream", "nftables", "wrk")
    if Lab.is_up():
        raise LabError("A lab is up already; `tools/lab down` takes it down.")
    topology = str(machine.REPOSITORY / "tools/labs/peers.toml")
    lab = Lab.up(Options(topology=topology, nic="af_xdp", build=str(build)))
    runs = {way.name: [] for way in WAYS}
    try:
        lab.stop(_DAEMON)
        for number in range(1, repetitions + 1):
            for way in WAYS:
                run = _try_guideway(lab, way, seconds) if way.idle else _try(lab, way, seconds)
                progress(number, way, run)
                runs[way.name].append(run)
    finally:
        lab.down()
    return {
        "runs": {name: [dataclasses.asdict(run) for run in these] for name, these in runs.items()},
        "medians": _summary(runs),
    }


def _summary(runs):
    """{way: medians, and how they stand to those of the direct way}."""
    fields = [field.name for field in dataclasses.fields(Run)]
    medians = {
        name: {field: report.median(getattr(run, field) for run in these) for field in fields}
        for name, these in runs.items()
    }
    direct = medians[DIRECT.name]
    for row in medians.values():
        row["share_of_direct"] = row["requests_per_second"] / direct["requests_per_second"]
        row["added_latency_us"] = row["latency_us"] - direct["latency_us"]
        row["added_machine_us"] = row["machine_us"] - direct["machine_us"]
    return medians


def _try_guideway(lab, way, seconds):
    """A daemon that is not asked stands still, so it is started for this alone."""
    config = lab.config()
    config["dataplane"]["idle"] = way.idle
    lab.config_file("balancer").write_text(yaml.safe_dump(config, sort_keys=False))
    lab.start(_DAEMON)
    try:
        run = _try(lab, way, seconds)
        counted = packets(lab)
        if counted["forwarded"] < run.requests_per_second * seconds or counted["dropped"]:
            raise LabError(f"Guideway did not forward everything: {counted}.")
        return run
    finally:
        lab.stop(_DAEMON)


def _try(lab, way, seconds):
    _wrk(lab, way, CONNECTIONS, 1)  # until everything is warm
    pids = namespace.pids(way.node) if way.node else []
    own, idle, began = _used_s(pids), machine.idle_s(), time.monotonic()
    requests, lasted, _ = _wrk(lab, way, CONNECTIONS, seconds)
    own, idle, took = _used_s(pids) - own, machine.idle_s() - idle, time.monotonic() - began
    busy = took * os.cpu_count() - idle
    with _apart(lab, way):
        _, _, latency = _wrk(lab, way, 1, seconds)
    return Run(
        requests_per_second=requests / lasted,
        balancer_us=own / requests * 1e6 if pids else None,
        machine_us=busy / requests * 1e6,
        idle_cores=idle / took,
        latency_us=latency,
    )


@contextlib.contextmanager
def _apart(lab, way):
    """A block in which the balancer has the last core, and client and servers have the first one.

    Left to the scheduler, two who talk to each other share a core or do not, as it happens, and
    waking a core that sleeps takes longer than anything else here.
    """
    allowed = sorted(os.sched_getaffinity(0))
    servers = [pid for node in lab.nodes if node.startswith("web-") for pid in namespace.pids(node)]
    # guidewayd has put its threads where they belong.
    balancer = namespace.pids(way.node) if way.node and not way.idle else []
    try:
        _pin(servers, allowed[:1])
        _pin(balancer, allowed[-1:])
        os.sched_setaffinity(0, allowed[:1])  # wrk will inherit it
        yield
    finally:
        os.sched_setaffinity(0, allowed)
        _pin(servers + balancer, allowed)


def _pin(pids, cores):
    for thread in _threads(pids):
        os.sched_setaffinity(int(thread.name), cores)


def _threads(pids):
    return [task for pid in pids for task in pathlib.Path(f"/proc/{pid}/task").iterdir()]


def _wrk(lab, way, connections, seconds):
    """(requests, seconds, median latency in µs) of the HTTP client on connections that stay."""
    argv = ["wrk", f"-t{min(2, connections)}", f"-c{connections}", f"-d{seconds}s", "--latency"]
    said = namespace.run(lab.command("client", [*argv, f"http://{way.vip}/"]))
    total = re.search(r"(\d+) requests in ([\d.]+)(ms|s|m),", said)
    median = re.search(r"50%\s+([\d.]+)(us|ms|s)", said)
    wrong = re.search(r"(Socket errors|Non-2xx).*", said)
    if not total or not median or wrong or total[1] == "0":
        raise LabError(f"{way.name}: wrk says {wrong[0] if wrong else said!r}.")
    units = {"us": 1, "ms": 1e3, "s": 1e6, "m": 60e6}
    lasted = float(total[2]) * units[total[3]] / 1e6
    return int(total[1]), lasted, float(median[1]) * units[median[2]]


def _used_s(pids):
    """Processor time that processes have used, all their threads together."""
    return sum(int((t / "schedstat").read_text().split()[0]) for t in _threads(pids)) / 1e9
