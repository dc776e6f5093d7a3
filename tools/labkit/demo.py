"""The demonstration behind tools/demo: says what it does, then shows what was seen."""

import hashlib
import os
import signal
import sys
import time

from .counters import VERDICTS, miscounted, packets
from .errors import LabError
from .lab import Lab, Options
from .traffic import Download, Load, get, spread, unfair
from .wait import wait_until

REQUESTS = 6000
DOWNLOAD_BYTES = 32 << 20
DOWNLOAD_PACE = 1 << 20  # a second, until everything has happened
DOWNLOADS_EACH = 2  # on the backend that stays, and on the one that is drained
AFTER_EACH_CHANGE = 500  # new connections to watch
ADDED = {"name": "web-4", "address": "10.0.0.14", "weight": 100}
LONGEST_OUTAGE_S = 3  # probes come every 200 ms, and two in a row must fail


class Report:
    """What was seen, and whether it is as it should be."""

    def __init__(self):
        self._rows = []

    def add(self, what, seen, ok):
        self._rows.append((what, seen, ok))

    def ok(self):
        return all(ok for _, _, ok in self._rows)

    def print(self):
        left, middle = (max(len(str(row[i])) for row in self._rows) for i in (0, 1))
        print()
        for what, seen, ok in self._rows:
            print(f"  {what:{left}}  {seen:{middle}}  {'ok' if ok else 'NOT OK'}")
        print()


def say(text):
    print(f"— {text}", flush=True)


def show_spread(lab, report):
    say(f"{REQUESTS} HTTP requests from the client, each over a connection of its own")
    counts = spread(get(lab) for _ in range(REQUESTS))
    backends = [b for b in lab.ask("get", "backends")["backends"] if b["service"] == "web"]
    weights = {b["name"]: b["weight"] for b in backends}
    for name, weight in weights.items():
        fair, got = weight / sum(weights.values()), counts[name] / REQUESTS
        print(f"    {name}  weight {weight:3}  fair share {fair:6.1%}  got {got:6.1%}")
    report.add("requests answered", f"{REQUESTS - counts[None]} of {REQUESTS}", counts[None] == 0)
    complaints = unfair(counts, weights)
    report.add("spread by weight", "; ".join(complaints) or "within chance", not complaints)


def show_changes(lab, report):
    path = lab.shared / "download.bin"
    path.write_bytes(os.urandom(DOWNLOAD_BYTES))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    downloads = start_downloads(lab, f"/files/{path.name}")
    say(
        f"{len(downloads)} slow downloads of {DOWNLOAD_BYTES >> 20} MB begin, on web-1 and web-2; "
        "meanwhile new connections all the time"
    )
    with Load(lab) as load:
        add_backend(lab, load, report)
        drain_backend(lab, load, report)
        failed_before = len(load.failures())
        kill_backend(lab, load, report)
        going_on = sum(download.is_alive() for download in downloads)
    report.add("connections failed before the kill", str(failed_before), failed_before == 0)
    report.add(
        "downloads going on after all that",
        f"{going_on} of {len(downloads)}",
        going_on == len(downloads),
    )

    say("the downloads go on to their end")
    for download in downloads:
        download.finish()
    for name in ("web-1", "web-2"):
        mine = [d for d in downloads if d.backend == name]
        exact = sum(d.digest == digest for d in mine)
        report.add(
            f"downloads from {name}, {'drained' if name == 'web-2' else 'untouched'}",
            f"{exact} of {len(mine)} byte-exact",
            exact == len(mine),
        )


def start_downloads(lab, path):
    """DOWNLOADS_EACH from web-1 and web-2."""
    kept = {"web-1": [], "web-2": []}
    while any(len(downloads) < DOWNLOADS_EACH for downloads in kept.values()):
        download = Download(lab, path, DOWNLOAD_PACE)
        wanted = kept.get(download.backend, [])
        if download.backend in kept and len(wanted) < DOWNLOADS_EACH:
            wanted.append(download)
        else:
            download.cancel()
    return [download for downloads in kept.values() for download in downloads]


def add_backend(lab, load, report):
    config = lab.config()
    config["services"][0]["backends"].append(ADDED)
    done = lab.apply(config)
    if done.returncode != 0:
        raise LabError(f"guideway apply failed: {done.stderr.strip()}")
    say("web-4 is added: guideway apply")
    wait_until(lambda: "web-4" in spread(load.replies), "web-4 to be used")
    after = load.wait_for(AFTER_EACH_CHANGE)
    share = spread(after)["web-4"] / len(after)
    report.add("web-4 after it was added", f"{share:.0%} of new connections", share > 0)


def drain_backend(lab, load, report):
    lab.ask("drain", "web/web-2")
    say("web-2 is drained: guideway drain web/web-2")
    new = spread(load.wait_for(AFTER_EACH_CHANGE))["web-2"]
    report.add("web-2 after it was drained", f"{new} new connections", new == 0)


def kill_backend(lab, load, report):
    killed = time.monotonic()
    lab.kill("web-3/nginx")
    say("web-3 is killed: its nginx gets SIGKILL")

    def ejected():
        backends = lab.ask("get", "backends")["backends"]
        down = [(b["service"], b["name"]) for b in backends if b["state"] == "down"]
        return ("web", "web-3") in down

    wait_until(ejected, "web-3 to be found down")
    found_down = time.monotonic()
    after = [r for r in load.wait_for(AFTER_EACH_CHANGE) if r.began > found_down]
    failed = [reply.began - killed for reply in load.failures() if reply.began > killed]
    outage = max(failed, default=0)
    say(f"    {len(failed)} new connections failed, the last {outage * 1000:.0f} ms after the kill")
    report.add(
        "from the kill to the last failed connection",
        f"{outage * 1000:.0f} ms",
        outage < LONGEST_OUTAGE_S,
    )
    late = spread(after)[None]
    report.add("failed after web-3 was found down", f"{late} of {len(after)}", late == 0)


def show_counters(lab, report):
    complaints = miscounted(lab)
    counters = packets(lab)
    sums = f"{counters['received']} = {' + '.join(str(counters[v]) for v in VERDICTS)}"
    report.add(f"received = {' + '.join(VERDICTS)}", "; ".join(complaints) or sums, not complaints)


def main():
    if Lab.is_up():
        raise LabError("A lab is up already; `tools/lab down` takes it down.")
    began = time.monotonic()
    report = Report()
    lab = Lab.up(Options(backends=4))
    try:
        say("the lab is up: client, gateway, balancer and four web servers")
        show_spread(lab, report)
        show_changes(lab, report)
        show_counters(lab, report)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        lab.down()
        say(f"the lab is down, after {time.monotonic() - began:.0f} s")
    report.print()
    return 0 if report.ok() else 1


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("demo: terminated."))
    try:
        sys.exit(main())
    except LabError as error:
        sys.exit(f"demo: {error}")
    except KeyboardInterrupt:
        sys.exit("demo: interrupted.")
