"""A daemon outside the lab, in a network namespace of its own, for tests of the process itself.

Its interface is one end of a veth pair, or a TAP; nobody is behind it. Its one backend is an address
of the namespace, where something listens while the daemon is up, so that health probes get answers.
"""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess

from labkit import namespace, wait_until

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
BUILD = REPOSITORY / "build"
NODE = "guideway-alone"
BACKEND = "10.0.0.11"

DEVICES = {
    "tap": "net_tap0,iface=far0",
    "af_packet": "net_af_packet0,iface=own0",
    "af_xdp": "net_af_xdp0,iface=own0",
}

CONFIG = """
interfaces:
  - {{ name: uplink, device: "{device}", mac: "02:00:00:00:00:01" }}
routes:
  - {{ prefix: 0.0.0.0/0, interface: uplink, mac: "02:00:00:00:00:fe" }}
tunnel: {{ source_ipv4: 192.0.2.1 }}
dataplane: {{ idle: backoff, hugepages: {hugepages}, flows_per_worker: 65536 }}
control: {{ socket: {socket} }}
services:
  - name: web
    vips: [198.51.100.10]
    protocol: tcp
    ports: [80]
    forwarding: ipip
    health_check: {{ interval: 100ms, timeout: 100ms, tcp: {{ port: 80 }} }}
    backends: [{{ name: web-1, address: {backend} }}]
"""


class Alone:
    def __init__(self, folder, nic, hugepages):
        self.folder = folder
        self.nic = nic
        self.config = folder / "guideway.yaml"
        self.socket = folder / "guideway.sock"
        self.log = folder / "log"
        self.process = None
        text = CONFIG.format(
            device=DEVICES[nic], hugepages=str(hugepages).lower(), socket=self.socket, backend=BACKEND
        )
        self.config.write_text(text)

    @property
    def pid(self):
        return self.process.pid

    def start(self, wrapper=(), **environment):
        """At the return it serves; its log is a new one. `wrapper`: the beginning of a command line that executes the rest."""
        argv = [*wrapper, str(BUILD / "lb/guidewayd"), "--config", str(self.config)]
        argv += ["--state_directory", str(self.folder / "state")]
        with open(self.log, "w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                ["ip", "netns", "exec", NODE, *argv],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
            )
        wait_until(self._serves, "the daemon to serve", deadline_s=60)

    def _serves(self):
        assert self.process.poll() is None, self.log.read_text()
        return " serving " in self.log.read_text()

    def send_signal(self, number):
        self.process.send_signal(number)

    def stop(self, number=signal.SIGTERM):
        """The exit status."""
        self.process.send_signal(number)
        return self.process.wait(timeout=30)

    def guideway(self, *words):
        argv = [str(BUILD / "tools/guideway"), *words, "--socket", str(self.socket)]
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout

    def ask(self, *words):
        """What `guideway` answers, from JSON."""
        return json.loads(self.guideway(*words, "-o", "json"))

    def send(self, frame):
        """A frame to the daemon's interface."""
        with namespace.inside(NODE):
            out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        with out:
            out.bind(("far0", 0))
            out.send(frame)


@contextlib.contextmanager
def alone(folder, nic="tap", hugepages=False):
    """An Alone that is not started yet; nothing of it is left afterwards."""
    namespace.run(["ip", "netns", "add", NODE])
    daemon = Alone(folder, nic, hugepages)
    try:
        namespace.ip(NODE, "link", "set", "lo", "up")
        namespace.ip(NODE, "address", "add", f"{BACKEND}/32", "dev", "lo")
        if nic != "tap":
            namespace.ip(NODE, "link", "add", "own0", "type", "veth", "peer", "name", "far0")
            for end in ("own0", "far0"):
                namespace.run(namespace.command(NODE, ["ethtool", "-K", end, "tx", "off"]))
                namespace.ip(NODE, "link", "set", end, "up")
        with namespace.inside(NODE):
            # Nobody accepts: each probe stays in the queue.
            backend = socket.create_server((BACKEND, 80), backlog=4096)
        with backend:
            yield daemon
    finally:
        if daemon.process is not None and daemon.process.poll() is None:
            daemon.process.kill()
            daemon.process.wait()
        namespace.run(["ip", "netns", "delete", NODE])
