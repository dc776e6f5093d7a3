"""Builds a lab, keeps track of it, and takes it down.

There is one lab at a time. All that is known of it while it is up lies in DIRECTORY: `lab.json`
(how it was asked for, and its processes), the shared folder `files`, and for each node a folder
with the logs and files of its programs. Removing the namespaces, the processes and DIRECTORY
removes the lab.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import signal
import string
import subprocess
import sys

import yaml

from . import namespace, topology
from .errors import LabError
from .process import Process, last_words
from .wait import wait_until

DIRECTORY = pathlib.Path("/var/lib/guideway-lab")  # on disk: tests serve large files from it
_STATE = DIRECTORY / "lab.json"
_REPOSITORY = pathlib.Path(__file__).resolve().parents[2]

# What stands for a NIC: the DPDK device of number {i}, made from the two ends of a topology's NIC.
NICS = {
    "tap": "net_tap{i},iface={far}",
    "af_packet": "net_af_packet{i},iface={own}",
    "af_xdp": "net_af_xdp{i},iface={own}",
}


@dataclasses.dataclass
class Options:
    """How a lab was asked for."""

    topology: str = str(_REPOSITORY / "tools/labs/first-light.toml")
    nic: str = "tap"
    backends: int | None = None
    config: str | None = None  # instead of the topology's own
    build: str = str(_REPOSITORY / "build")


class Lab:
    """A lab that is up. Programs in it are named NODE/SERVICE, daemons NODE/guidewayd."""

    def __init__(self, options, processes):
        self.options = options
        self._processes = processes
        self._builder = Process.own()
        self._topology = topology.load(
            options.topology, options.backends, pathlib.Path(options.build), DIRECTORY
        )

    @classmethod
    def up(cls, options):
        """Builds a lab: at the return every daemon is serving and has probed every backend.

        If anything fails, nothing is left behind.
        """
        if os.geteuid() != 0:
            raise LabError("The lab needs root, for its network namespaces.")
        if cls.is_up():
            raise LabError("A lab is up already; `tools/lab down` takes it down.")
        if why := cls._why_left():
            print(f"lab: {why}; what is left of it is removed.", file=sys.stderr)
            cls.current(left_too=True).down()
        lab = cls(options, {})
        for program in ("lb/guidewayd", "tools/guideway"):
            if not (pathlib.Path(options.build) / program).exists():
                raise LabError(f"{options.build}/{program} is missing; ./tools/build makes it.")
        taken = namespace.names() & set(lab.nodes)
        if taken:
            names = ", ".join(sorted(taken))
            raise LabError(f"Network namespaces of other origin are in the way: {names}.")
        lab.shared.mkdir(parents=True)
        lab._save()
        try:
            lab._build()
        except BaseException:
            lab.down()
            raise
        return lab

    @classmethod
    def is_up(cls):
        """Whether there is one. What a reboot or a crash left of one is none."""
        return _STATE.exists() and cls._why_left() is None

    @classmethod
    def current(cls, left_too=False):
        """The lab that is up; with `left_too`, what is left of one as well."""
        if not left_too and (why := cls._why_left()):
            raise LabError(f"{why}; `tools/lab up` starts a new one, `tools/lab down` removes what is left.")
        try:
            state = json.loads(_STATE.read_text())
        except FileNotFoundError:
            raise LabError("No lab is up; `tools/lab up` starts one.") from None
        except ValueError:
            raise LabError(f"{_STATE} is broken; `rm -r {DIRECTORY}` removes what is left of a lab.") from None
        try:
            processes = {name: Process(**fields) for name, fields in state["processes"].items()}
            options = Options(**state["options"])
            # Earlier versions did not say who builds it.
            builder = Process(**state["builder"]) if "builder" in state else Process(0, "nobody")
        except (KeyError, TypeError, AttributeError):
            raise LabError(
                f"The lab in {DIRECTORY} is of another version of tools/lab, which takes it down; without that one "
                f"`rm -r {DIRECTORY}` forgets it, and `ip netns delete` removes its namespaces."
            ) from None
        lab = cls(options, processes)
        lab._builder = builder
        return lab

    @classmethod
    def _why_left(cls):
        """What became of a lab that ended without being taken down; None if it lives, or there is none."""
        if not _STATE.exists():
            return None
        lab = cls.current(left_too=True)
        if lab._builder.running():  # it may not have come far yet
            return None
        if not namespace.names() & set(lab.nodes):
            return "The lab that was up is gone, without its namespaces: after a reboot, most likely"
        if not any(process.running() for process in lab._processes.values()):
            return "None of the programs of the lab that was up runs any more: it was killed, most likely"
        return None

    def down(self):
        """Removes the lab, whatever state it is in."""
        for name in reversed(self._processes):
            self._processes[name].stop()
        for node in namespace.names() & set(self.nodes):
            for pid in set(namespace.pids(node)) - {os.getpid()}:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            namespace.run(["ip", "netns", "delete", node])
        shutil.rmtree(DIRECTORY)

    # What there is.

    @property
    def nodes(self):
        return [node.name for node in self._topology.nodes]

    @property
    def daemons(self):
        """The nodes that a daemon runs on."""
        return [daemon.node for daemon in self._topology.daemons]

    @property
    def programs(self):
        """{NODE/SERVICE: its Process, None if it was never started}, in the order of starting."""
        names = [f"{node.name}/{s.name}" for node in self._topology.nodes for s in node.service]
        names += [f"{node}/guidewayd" for node in self.daemons]
        return {name: self._processes.get(name) for name in names}

    @property
    def shared(self):
        """The folder that every backend serves as /files/."""
        return DIRECTORY / "files"

    def folder(self, node):
        """Of the node's logs and files."""
        return DIRECTORY / node

    def log(self, name):
        """Of the program NODE/SERVICE."""
        return DIRECTORY / f"{name}.log"

    def config_file(self, node):
        """That the daemon on `node` is started with."""
        return self.folder(node) / "guideway.yaml"

    def socket(self, node):
        """Where the daemon on `node` takes commands."""
        return self.folder(node) / "guideway.sock"

    # What can be done with it.

    def start(self, name):
        """Starts the program NODE/SERVICE; at the return it is ready."""
        if self.running(name):
            raise LabError(f"{name} is running already.")
        node, service = name.split("/")
        if service == "guidewayd":
            self._start_daemon(next(d for d in self._topology.daemons if d.node == node))
        else:
            services = next(n.service for n in self._topology.nodes if n.name == node)
            self._start_service(node, next(s for s in services if s.name == service))

    def stop(self, name, number=signal.SIGTERM):
        """Ends the program NODE/SERVICE by a signal, by SIGKILL if it takes its time.

        Returns its exit status if the lab was built by this process.
        """
        return self._process(name).stop(number)

    def kill(self, name):
        """Ends the program NODE/SERVICE and its children without a warning."""
        return self.stop(name, signal.SIGKILL)

    def signal(self, name, number):
        """Sends a signal to the program NODE/SERVICE and its children."""
        os.killpg(self._process(name).pid, number)

    def running(self, name):
        if name not in self.programs:
            raise LabError(f"{name} is none of {', '.join(self.programs)}.")
        process = self._processes.get(name)
        return process is not None and process.running()

    def inside(self, node):
        """A block in which this thread opens its sockets on `node`."""
        return namespace.inside(node)

    def command(self, node, argv):
        """The command line that runs `argv` on `node`."""
        if node not in self.nodes:
            raise LabError(f"{node} is none of {', '.join(self.nodes)}.")
        return namespace.command(node, argv)

    def guideway_call(self, *words, node=None):
        """The words that run `guideway` against the daemon on `node` (the first one)."""
        socket = self.socket(node or self.daemons[0])
        return [f"{self.options.build}/tools/guideway", *words, "--socket", str(socket)]

    def guideway(self, *words, node=None):
        """Runs it; a CompletedProcess."""
        return subprocess.run(self.guideway_call(*words, node=node), capture_output=True, text=True, check=False)

    def ask(self, *words, node=None):
        """What `guideway` answers, from JSON; LabError with its words if it fails."""
        done = self.guideway(*words, "-o", "json", node=node)
        if done.returncode != 0:
            raise LabError(f"«guideway {' '.join(words)}» failed: {done.stderr.strip()}")
        return json.loads(done.stdout)

    def config(self, node=None):
        """What the daemon on `node` was started with, to be changed and applied."""
        return yaml.safe_load(self.config_file(node or self.daemons[0]).read_text())

    def apply(self, config, node=None):
        """Has a changed configuration applied by `guideway apply`; a CompletedProcess."""
        path = self.folder(node or self.daemons[0]) / "applied.yaml"
        path.write_text(yaml.safe_dump(config, sort_keys=False))
        return self.guideway("apply", str(path), node=node)

    # How it is built.

    def _build(self):
        for node in self._topology.nodes:
            self._make_node(node)
        for link in self._topology.links:
            _make_link(*link.ends)
        for node in self._topology.nodes:
            for route in node.routes:
                namespace.ip(node.name, "route", "add", *route.split())
            for argv in node.setup:
                namespace.run(namespace.command(node.name, argv))
            for service in node.service:
                self._start_service(node.name, service)
        for daemon in self._topology.daemons:
            self._make_nics(daemon)
            self._write_config(daemon)
            self._start_daemon(daemon)

    def _make_node(self, node):
        namespace.run(["ip", "netns", "add", node.name])
        self.folder(node.name).mkdir()
        for key, value in node.sysctls.items():
            namespace.run(namespace.command(node.name, ["sysctl", "-qw", f"{key}={value}"]))
        namespace.ip(node.name, "link", "set", "lo", "up")
        for address in node.loopback:
            namespace.ip(node.name, "address", "add", address, "dev", "lo")
        for bridge, addresses in node.bridges.items():
            namespace.ip(node.name, "link", "add", bridge, "type", "bridge")
            _set_up(topology.End(node.name, bridge, addresses=addresses))

    def _make_nics(self, daemon):
        """What the daemon's NICs are made of, but for a TAP, which the daemon makes."""
        if self.options.nic == "tap":
            return
        for nic in daemon.nic:
            # Frames leave these ends for a program: no kernel will fill in their checksums.
            ends = (dataclasses.replace(end, ethtool=["tx off"]) for end in (nic.own, nic.far))
            _make_link(*ends)
            # What comes in at the daemon's end the kernel may see as well: it is not to answer.
            quiet = f"net.ipv6.conf.{nic.own.device}.disable_ipv6=1"
            namespace.run(namespace.command(nic.own.node, ["sysctl", "-qw", quiet]))

    def _write_config(self, daemon):
        path = pathlib.Path(self.options.config or daemon.config)
        words = {"socket": self.socket(daemon.node)}
        for i, nic in enumerate(daemon.nic):
            device = NICS[self.options.nic]
            words[nic.name] = device.format(i=i, own=nic.own.device, far=nic.far.device)
        try:
            text = path.read_text()
        except OSError as error:
            raise LabError(f"{path}: {error.strerror}.") from error
        self.config_file(daemon.node).write_text(string.Template(text).safe_substitute(words))

    def _start_service(self, node, service):
        name = f"{node}/{service.name}"
        process = self._launch(name, service.run)
        for text in service.listens:
            protocol, port = text.split(":")

            def ready(protocol=protocol, port=int(port)):
                self._check_alive(name, process)
                return port in namespace.listening(node, protocol)

            wait_until(ready, f"{name} to listen on {text}")

    def _start_daemon(self, daemon):
        name = f"{daemon.node}/guidewayd"
        program = f"{self.options.build}/lb/guidewayd"
        argv = [program, "--config", str(self.config_file(daemon.node))]
        argv += ["--state_directory", str(self.folder(daemon.node) / "state")]
        process = self._launch(name, argv)

        def answers(*words):
            self._check_alive(name, process)
            return self.guideway(*words, node=daemon.node).returncode == 0

        wait_until(lambda: answers("status"), f"{name} to answer", deadline_s=30)
        if self.options.nic == "tap":
            for nic in daemon.nic:
                device, there = nic.far.device, nic.far.node
                namespace.ip(daemon.node, "link", "set", device, "netns", there)
                _set_up(nic.far)

        def probed():
            self._check_alive(name, process)
            backends = self.ask("get", "backends", node=daemon.node)["backends"]
            # The state tells nothing: at its start the daemon takes all backends for up.
            return all(backend["health"] for backend in backends)

        wait_until(probed, f"{name} to probe every backend", deadline_s=30)

    def _launch(self, name, argv):
        node = name.split("/")[0]
        process = Process.start(namespace.command(node, argv), self.log(name))
        self._processes[name] = process
        self._save()
        return process

    def _check_alive(self, name, process):
        if not process.running():
            raise LabError(f"{name} ended at once: {last_words(self.log(name))}")

    def _process(self, name):
        if not self.running(name):
            raise LabError(f"{name} is not running.")
        return self._processes[name]

    def _save(self):
        state = {
            "options": dataclasses.asdict(self.options),
            "builder": dataclasses.asdict(self._builder),
            "processes": {name: dataclasses.asdict(p) for name, p in self._processes.items()},
        }
        fresh = _STATE.with_suffix(".new")
        fresh.write_text(json.dumps(state, indent=2) + "\n")
        fresh.replace(_STATE)


def _make_link(a, b):
    """A veth pair between the ends."""
    namespace.ip(
        a.node, "link", "add", a.device, "type", "veth", "peer", "name", b.device, "netns", b.node
    )
    for end in (a, b):
        _set_up(end)


def _set_up(end):
    """Everything that an end says of its device, which exists."""
    on, dev = end.node, ["dev", end.device]
    if end.mac:
        namespace.ip(on, "link", "set", *dev, "address", end.mac)
    if not end.arp:
        namespace.ip(on, "link", "set", *dev, "arp", "off")
    if end.mtu:
        namespace.ip(on, "link", "set", *dev, "mtu", str(end.mtu))
    if end.bridge:
        namespace.ip(on, "link", "set", *dev, "master", end.bridge)
    for feature in end.ethtool:
        namespace.run(namespace.command(on, ["ethtool", "-K", end.device, *feature.split()]))
    for address in end.addresses:
        namespace.ip(on, "address", "add", address, *dev)
    namespace.ip(on, "link", "set", *dev, "up")
    for neighbour in end.neighbours:
        namespace.ip(on, "neighbour", "add", *neighbour.split(), *dev)
    for route in end.routes:
        namespace.ip(on, "route", "add", *route.split(), *dev)
