"""bench/table finds what it looks for in a run that was saved, and judges it. How fast anything is,
is not tested."""

import json
import subprocess

import pytest

from conftest import REPOSITORY

IPIP = "Pipeline/ipip/ipv4/"


def runs(name, *ns, hit_rate=1.0, error=None):
    """As Google Benchmark writes the repetitions of one case; with `error` one more, which failed."""
    good = [{"ns_per_packet": n, "hit_rate": hit_rate} for n in ns]
    bad = [{"error_occurred": True, "error_message": error}] if error else []
    return [{"name": name, "run_name": name, "run_type": "iteration", **run} for run in good + bad]


@pytest.fixture(name="table")
def _table(tmp_path):
    """bench/table's answer about such runs: the rows of its tables."""

    def table(*cases):
        path = tmp_path / "saved.json"
        path.write_text(json.dumps({"benchmarks": sum(cases, [])}))
        argv = ["bench/table", "--from", str(path)]
        done = subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return [line.strip("| ").split(" | ") for line in done.stdout.splitlines()]

    return table


def find(table, beginning):
    """What was measured of an aim, and whether it holds."""
    [found] = [tuple(row[1:]) for row in table if row[0].startswith(beginning)]
    return found


def test_medians_beside_the_floor(table):
    said = table(
        runs("Floor/macswap", 4, 5, 100), runs(IPIP + "flows:1000", 1, 20, 30), runs("other", 1)
    )
    assert find(said, "ipip, IPv4, 1,000 flows") == ("4.00 F (20.0 ns)", "yes")
    assert find(said, "ipip, IPv4, 1,000,000 flows") == ("–", "–")
    assert ["ipip", "IPv4", "20.0 ns, 4.0 F", "–", "–", "–"] in said


def test_what_is_missed(table):
    floor, million = runs("Floor/macswap", 5), runs(IPIP + "flows:1000000", 36)
    assert find(table(floor, million), "ipip, IPv4, 1,000,000") == ("7.20 F (36.0 ns)", "no")
    said = table(million, runs("Pipeline/nat/ipv6/flows:1000000", 54, hit_rate=0.9998))
    measured, holds = find(said, "every other forwarding")
    assert holds == "no"
    assert measured.startswith("at worst 1.50 (nat, IPv6, 1,000,000 flows)")
    assert find(said, "connections found")[1] == "no"


def test_two_workers(table):
    name, million = IPIP + "flows:1000000/threads:2", runs(IPIP + "flows:1000000", 38)
    assert find(table(million, runs(name, 20)), "two workers") == ("1.90 (20.0 ns)", "yes")
    assert find(table(million, runs(name, 21)), "two workers")[1] == "no"


def test_lost_packets(table):
    """However fast the others were."""
    million = runs(IPIP + "flows:1000000", 38)
    said = table(million, runs(IPIP + "swaps", 38, error="packets were lost"))
    assert find(said, "1000 swaps") == ("failed: packets were lost", "no")
    assert find(table(million, runs(IPIP + "swaps", 38)), "1000 swaps")[1] == "yes"
