"""The packet path alone: what pipeline_bench measures, and what is wanted of it.

Everything is nanoseconds a packet, the median of the repetitions, beside F: that of Floor/macswap
in the same run. What Google Benchmark writes as JSON goes in and comes out as it is, so that one
run can be looked at again.
"""

import dataclasses
import json
import math
import pathlib
import subprocess
import sys
import tempfile

from labkit import LabError

from . import machine, report

FORWARDINGS = ("ipip", "gre", "gue", "vxlan", "direct", "nat")
FAMILIES = ("ipv4", "ipv6")
FLOWS = (1000, 100_000, 1_000_000, 10_000_000)
FLOOR = "Floor/macswap"
_IPIP = "Pipeline/ipip/ipv4/"
NEW_FLOWS = _IPIP + "new_flows"
SWAPS = _IPIP + "swaps"
TWO_THREADS = _IPIP + "flows:1000000/threads:2"
OTHERS = (NEW_FLOWS, *(f"{_IPIP}services:{n}" for n in (1, 100, 10_000)), SWAPS, TWO_THREADS)

_HUGE_PAGES = 600  # 1200 MiB: more than any case takes
# Of one repetition: half a million packets. What takes long is filling the tables before it.
_MIN_TIME_S = 0.05
_NONE = "–"


def case_name(forwarding, family, flows):
    return f"Pipeline/{forwarding}/{family}/flows:{flows}"


@dataclasses.dataclass
class Case:
    """All repetitions of one case."""

    ns: list = dataclasses.field(default_factory=list)  # a packet, of each that succeeded
    hit_rates: list = dataclasses.field(default_factory=list)
    errors: list = dataclasses.field(default_factory=list)  # of those that did not, messages

    @property
    def median(self):
        return report.median(self.ns)


def measure(build, repetitions, pattern=None):
    """Runs the cases whose names match, all of them without a pattern, and the floor. Returns what
    Google Benchmark says; its progress goes to standard error."""
    machine.need_root()
    program = pathlib.Path(build) / "bench/pipeline_bench"
    if not program.exists():
        raise LabError(f"{program} is missing; ./tools/build makes it.")
    with machine.huge_pages(_HUGE_PAGES), tempfile.NamedTemporaryFile(suffix=".json") as out:
        argv = [
            str(program),
            f"--benchmark_repetitions={repetitions}",
            "--benchmark_enable_random_interleaving=true",
            f"--benchmark_min_time={_MIN_TIME_S}",
            f"--benchmark_out={out.name}",
            "--benchmark_out_format=json",
        ]
        if pattern:
            # A leading minus stands for all that do not match.
            whole = pattern if pattern.startswith("-") else f"^{FLOOR}$|{pattern}"
            argv.append(f"--benchmark_filter={whole}")
        done = subprocess.run(argv, stdout=sys.stderr, check=False)
        if done.returncode != 0:
            raise LabError(f"pipeline_bench ended with status {done.returncode}.")
        written = pathlib.Path(out.name).read_text()
        if not written:
            raise LabError("pipeline_bench measured nothing; what it said is above.")
        data = parse(written, "what pipeline_bench wrote")
    if pattern and not cases(data).keys() - {FLOOR}:
        raise LabError(f"no case matches {pattern}.")
    return data


def parse(text, what):
    """Google Benchmark's JSON; `what` is for the complaint."""
    try:
        data = json.loads(text)
    except ValueError as error:
        raise LabError(f"{what} is not JSON: {error}.") from None
    if not isinstance(data, dict) or not data.get("benchmarks"):
        raise LabError(f"{what} has no benchmarks in it.")
    return data


def cases(data):
    """{name: Case}, from Google Benchmark's JSON."""
    found = {}
    for run in data["benchmarks"]:
        if run.get("run_type", "iteration") != "iteration":
            continue  # a mean, a median
        case = found.setdefault(run.get("run_name", run["name"]), Case())
        if run.get("error_occurred"):
            case.errors.append(run.get("error_message", "failed"))
        else:
            case.ns.append(run["ns_per_packet"])
            case.hit_rates.append(run["hit_rate"])
    return found


@dataclasses.dataclass
class Aim:
    """Something that is wanted, and what came of it."""

    text: str
    measured: str = _NONE
    holds: bool | None = None  # None: was not measured

    def row(self):
        return [self.text, self.measured, {True: "yes", False: "no", None: _NONE}[self.holds]]


class Judge:
    """What the cases of one run are worth."""

    def __init__(self, found):
        self._cases = found
        self.floor = self.ns(FLOOR)

    def case(self, name):
        return self._cases.get(name, Case())

    def ns(self, name):
        return self.case(name).median

    def ratio(self, name, to):
        ours, theirs = self.ns(name), self.ns(to)
        return None if ours is None or not theirs else ours / theirs

    def aims(self):
        million = case_name("ipip", "ipv4", 1_000_000)
        return [
            self._floors(1000, 5),
            self._floors(1_000_000, 7),
            self._floors(10_000_000, 9),
            self._all_alike(1.3),
            self._times("new connections", NEW_FLOWS, "1,000,000 flows", million, 2),
            self._times(
                "10,000 services", _IPIP + "services:10000", "one", _IPIP + "services:1", 1.2
            ),
            self._swaps(million, 1.1),
            self._threads(million, 1.9),
            self._hit_rate(0.9999),
        ]

    def _failed(self, *names):
        return any(self.case(name).errors for name in names)

    def _at_most(self, aim, value, limit, measured, *names):
        """Fills in what was measured, and whether it holds; one whose runs failed does not."""
        if value is not None:
            aim.measured, aim.holds = measured, value <= limit
        if self._failed(*names):
            aim.measured, aim.holds = self._first_error(*names), False
        return aim

    def _first_error(self, *names):
        name = next(name for name in names if self.case(name).errors)
        return f"failed: {self.case(name).errors[0]}"

    def _floors(self, flows, limit):
        name = case_name("ipip", "ipv4", flows)
        value = self.ratio(name, FLOOR)
        measured = "" if value is None else f"{value:.2f} F ({self.ns(name):.1f} ns)"
        aim = Aim(f"ipip, IPv4, {flows:,} flows: at most {limit} F")
        return self._at_most(aim, value, limit, measured, name, FLOOR)

    def _all_alike(self, limit):
        """Every forwarding and family beside ipip over IPv4 with as many flows."""
        ratios, names, wanted = {}, [], 0
        for flows in FLOWS:
            base = case_name("ipip", "ipv4", flows)
            for forwarding in FORWARDINGS:
                for family in FAMILIES:
                    name = case_name(forwarding, family, flows)
                    if name == base:
                        continue
                    wanted += 1
                    names.append(name)
                    value = self.ratio(name, base)
                    if value is not None:
                        ratios[f"{forwarding}, {_people(family)}, {flows:,} flows"] = value
        aim = Aim(f"every other forwarding and family: at most {limit} times ipip over IPv4")
        if not ratios:
            return self._at_most(aim, None, limit, "", *names)
        worst = max(ratios, key=ratios.get)
        measured = f"at worst {ratios[worst]:.2f} ({worst})"
        over = sum(value > limit for value in ratios.values())
        if over:
            measured += f"; {over} of {len(ratios)} are over it"
        if len(ratios) < wanted:
            measured += f"; {len(ratios)} of {wanted} were measured"
        return self._at_most(aim, ratios[worst], limit, measured, *names)

    def _times(self, text, name, base_text, base, limit):
        value = self.ratio(name, base)
        measured = "" if value is None else f"{value:.2f} ({self.ns(name):.1f} ns)"
        aim = Aim(f"{text}: at most {limit} times {base_text}")
        return self._at_most(aim, value, limit, measured, name, base)

    def _swaps(self, million, limit):
        value = self.ratio(SWAPS, million)
        measured = "" if value is None else f"{value:.2f} ({self.ns(SWAPS):.1f} ns), none lost"
        aim = Aim(f"1000 swaps a second: at most {limit} times without, and no packet lost")
        return self._at_most(aim, value, limit, measured, SWAPS, million)

    def _threads(self, million, least):
        value = self.ratio(TWO_THREADS, million)
        measured = "" if value is None else f"{1 / value:.2f} ({self.ns(TWO_THREADS):.1f} ns)"
        aim = Aim(f"two workers: at least {least} times the packets of one")
        return self._at_most(aim, value, 1 / least, measured, TWO_THREADS, million)

    def _hit_rate(self, least):
        rates = {
            name: min(case.hit_rates)
            for name, case in self._cases.items()
            if case.hit_rates and name not in (FLOOR, NEW_FLOWS)
        }
        aim = Aim(f"connections found: at least {least} of the packets, but for new ones")
        if not rates:
            return aim
        lowest = min(rates, key=rates.get)
        missed = 1 - rates[lowest]
        measured = f"at worst {_cut(rates[lowest])} ({lowest.removeprefix('Pipeline/')})"
        # With room for the last bit: a rate is 1 minus a fraction.
        return self._at_most(aim, missed, 1 - least + 1e-12, measured)

    def ways_table(self):
        header = ["forwarding", "family", *(f"{flows:,} flows" for flows in FLOWS)]
        rows = [
            [forwarding, _people(family)]
            + [self._cell(case_name(forwarding, family, flows)) for flows in FLOWS]
            for forwarding in FORWARDINGS
            for family in FAMILIES
        ]
        return report.markdown(header, rows, names=2)

    def others_table(self):
        rows = [[name.removeprefix(_IPIP), self._cell(name)] for name in OTHERS]
        return report.markdown(["ipip, IPv4", "ns a packet"], rows)

    def aims_table(self):
        rows = [aim.row() for aim in self.aims()]
        return report.markdown(["aim", "measured", "holds"], rows, names=3)

    def notes(self):
        """What the figures are, and which runs failed."""
        runs = sorted({len(case.ns) for case in self._cases.values() if case.ns})
        many = _NONE if not runs else "–".join(str(n) for n in sorted({runs[0], runs[-1]}))
        lines = [f"Nanoseconds a packet, medians of {many} runs."]
        if self.floor is not None:
            ns = self.case(FLOOR).ns
            lines[0] += f" F = {self.floor:.2f} ns ({min(ns):.2f} to {max(ns):.2f}): {FLOOR}."
        for name, case in self._cases.items():
            for message in sorted(set(case.errors)):
                failed, of = case.errors.count(message), len(case.errors) + len(case.ns)
                lines.append(f"{name} failed in {failed} of {of} runs: {message}.")
        return "\n".join(lines)

    def as_values(self):
        """All of it as plain values."""
        return {
            "medians": {name: case.median for name, case in self._cases.items()},
            "aims": [dataclasses.asdict(aim) for aim in self.aims()],
        }

    def _cell(self, name):
        ns = self.ns(name)
        if ns is None:
            return "failed" if self.case(name).errors else _NONE
        return f"{ns:.1f} ns" + ("" if not self.floor else f", {ns / self.floor:.1f} F")


def _people(family):
    return family.replace("ipv", "IPv")


def _cut(rate):
    """Never rounded up."""
    return f"{math.floor(rate * 1e6 + 1e-6) / 1e6:.6f}"
