"""Changes lose nothing: a thousand configurations in a row, drains, reloads and a backend that flaps,
under wrk, long downloads and many idle connections.

Connections are opened while web-1 to web-3 are all there is, and those stay: nothing that happens
has to move one of them. web-4 comes, goes and flaps, and so do services beside.
"""

import contextlib
import copy
import hashlib
import http.client
import json
import os
import random
import signal
import socket
import subprocess

import yaml

from labkit import wait_until
from labkit.traffic import Download, ask, get, session
from observe import states

DAEMON = "balancer/guidewayd"
APPLIES = 1000
WARM_UP = 300  # applies, until memory is what it will be
SESSIONS = 300
DOWNLOADS = 6
WRK_CONNECTIONS = 16
STAY = ("web-1", "web-2", "web-3")

# Heap pages that are touched late, and what the allocator keeps of them. A Snapshot, its tables and
# the configuration that it came from take more than a tenth of it: one leak in ten applies would
# be well over it.
GROWTH_KB = 6 << 10


class Api(http.client.HTTPConnection):
    """The control socket, without a process for each question."""

    def __init__(self, lab):
        super().__init__("guideway")
        self._path = str(lab.socket("balancer"))

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(30)
        self.sock.connect(self._path)

    def ask(self, path, body=None):
        self.request("GET" if body is None else "POST", path, body)
        answer = self.getresponse()
        text = answer.read()
        self.close()
        assert answer.status == 200, text
        return json.loads(text)


class Wrk:
    """wrk on the client, on connections that it opens now and keeps, until `stop`."""

    def __init__(self, lab):
        argv = ["wrk", "-t1", f"-c{WRK_CONNECTIONS}", "-d600s", "http://198.51.100.10/"]
        self._process = subprocess.Popen(
            lab.command("client", argv), stdout=subprocess.PIPE, text=True
        )

    def stop(self):
        """What it says at its end."""
        self._process.send_signal(signal.SIGINT)
        return self._process.communicate(timeout=30)[0]

    def kill(self):
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def another(config, random_):
    """A configuration that differs from `config` in weights, backends and services."""
    changed = copy.deepcopy(config)
    web = changed["services"][0]
    for backend in web["backends"]:
        backend["weight"] = random_.randint(1, 200)
    if random_.random() < 0.5:
        web["backends"].append({"name": "web-4", "address": "10.0.0.14", "weight": 100})
    random_.shuffle(web["backends"])
    web["table_size"] = random_.choice((65537, 16381))
    for n in range(random_.randrange(4)):
        beside = copy.deepcopy(web)
        beside.update(name=f"beside-{n}", ports=[8000 + n])
        changed["services"].append(beside)
    random_.shuffle(changed["services"])
    return changed


def losses(api):
    """Packets that the daemon dropped, by reason, and that its interfaces missed."""
    status = api.ask("/v1/status")
    lost = {reason: int(n) for reason, n in status["packets"]["drops"].items() if int(n) > 0}
    missed = sum(int(interface["missed"]) for interface in status["interfaces"])
    return {**lost, "missed": missed}


def opened_connections(api):
    return sum(int(service["new_flows"]) for service in api.ask("/v1/services")["services"])


def memory_kb(pid):
    status = open(f"/proc/{pid}/status", encoding="ascii").read()
    return int(status.split("RssAnon:")[1].split()[0])


def test_a_thousand_changes_lose_nothing(lab):
    api = Api(lab)
    seed = int(os.environ.get("GUIDEWAY_SEED", random.randrange(1 << 32)))
    print(f"GUIDEWAY_SEED={seed}")  # pytest shows it with a failure
    random_ = random.Random(seed)
    pid = api.ask("/v1/status")["pid"]
    file = lab.shared / "slow.bin"
    file.write_bytes(os.urandom(16 << 20))
    config = lab.config()
    unhealthy = lab.folder("web-4") / "unhealthy"

    with contextlib.ExitStack() as stack:
        sessions = [stack.enter_context(session(lab, timeout_s=20)) for _ in range(SESSIONS)]
        first = [ask(s).backend for s in sessions]
        assert set(first) == set(STAY)
        downloads = [Download(lab, "/files/slow.bin", pace=256 << 10) for _ in range(DOWNLOADS)]
        for download in downloads:
            stack.callback(download.cancel)
        opened = opened_connections(api)
        wrk = Wrk(lab)
        stack.callback(wrk.kill)
        wait_until(
            lambda: opened_connections(api) >= opened + WRK_CONNECTIONS, "wrk's connections"
        )
        before = losses(api)
        warm = 0
        for n in range(1, APPLIES + 1):
            text = yaml.safe_dump(another(config, random_), sort_keys=False)
            api.ask("/v1/apply", text.encode())
            if n % 10 == 0:  # web-4 flaps
                unhealthy.unlink() if unhealthy.exists() else unhealthy.touch()
            if n % 25 == 0:
                backend = {"service": "web", "backend": random_.choice(STAY)}
                api.ask("/v1/drain", json.dumps(backend))
                api.ask("/v1/undrain", json.dumps(backend))
            if n % 50 == 0:
                lab.signal(DAEMON, signal.SIGHUP)
                wait_until(lambda: api.ask("/v1/status")["applied_file"] == "", "the reload")
            if n % 250 == 0:  # nginx closes connections that are idle for 75 s
                assert [ask(s).backend for s in sessions] == first
            if n == WARM_UP:
                warm = memory_kb(pid)
            assert losses(api) == before, n
        said = wrk.stop()

        assert [ask(s).backend for s in sessions] == first
        for download in downloads:
            download.finish()
            assert download.error == ""
            assert download.digest == hashlib.sha256(file.read_bytes()).hexdigest()
        assert losses(api) == before
        assert "Socket errors" not in said and "Non-2xx" not in said, said
        assert "requests in" in said, said
        print(f"memory: {warm} kB after {WARM_UP} changes, {memory_kb(pid)} kB after {APPLIES}")
        assert memory_kb(pid) - warm < GROWTH_KB
        assert api.ask("/v1/status")["pid"] == pid
    assert get(lab).status == 200
    wait_until(lambda: set(states(lab).values()) <= {"up", "down"}, "probes to say who is well")
