"""A lab as data: nodes, the links between them, and where the daemons run.

`load` reads it from a TOML file; tools/labs/first-light.toml says what its words mean.
"""

import dataclasses
import pathlib
import tomllib

from .errors import LabError


@dataclasses.dataclass
class Service:
    """A program that runs on a node for as long as the lab is up."""

    name: str
    run: list[str]
    listens: list[str] = dataclasses.field(default_factory=list)  # "tcp:80": then it is ready


@dataclasses.dataclass
class Node:
    """A network namespace."""

    name: str
    sysctls: dict[str, int] = dataclasses.field(default_factory=dict)
    loopback: list[str] = dataclasses.field(default_factory=list)  # addresses beside 127.0.0.1
    bridges: dict[str, list[str]] = dataclasses.field(default_factory=dict)  # name: addresses
    routes: list[str] = dataclasses.field(default_factory=list)
    setup: list[list[str]] = dataclasses.field(default_factory=list)  # commands, once
    service: list[Service] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class End:
    """One end of a link: a device on a node."""

    node: str
    device: str
    mac: str = ""
    arp: bool = True
    mtu: int | None = None  # None: 1500
    bridge: str = ""  # one of the node's, which the device then joins
    addresses: list[str] = dataclasses.field(default_factory=list)
    neighbours: list[str] = dataclasses.field(default_factory=list)
    routes: list[str] = dataclasses.field(default_factory=list)  # `dev` is added
    ethtool: list[str] = dataclasses.field(default_factory=list)  # "gro on"


@dataclasses.dataclass
class Link:
    """A veth pair."""

    ends: list[End]


@dataclasses.dataclass
class Nic:
    """A NIC of a daemon. `name` is its $word in the configuration."""

    name: str
    own: End
    far: End


@dataclasses.dataclass
class Daemon:
    """A guidewayd."""

    node: str
    config: str
    nic: list[Nic]


@dataclasses.dataclass
class Topology:
    nodes: list[Node]
    links: list[Link]
    daemons: list[Daemon]


def load(path, backends, build, run):
    """Reads the TOML file `path`.

    `backends` is the count of the nodes that have one (None: as the file says), `build` the build
    directory, `run` the directory of the lab, under which each node has one of its own.
    """
    path = pathlib.Path(path).resolve()
    try:
        data = tomllib.loads(path.read_text())
    except OSError as error:
        raise LabError(f"{path}: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise LabError(f"{path}: {error}.") from error
    try:
        return _Reader(data, path.parent, backends, build, run).topology()
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise LabError(f"{path}: this is no topology: {error}.") from error


class _Reader:
    def __init__(self, data, folder, backends, build, run):
        self._data = dict(data)
        self._run = run
        self._sysctls = self._data.pop("sysctls", {})
        self._words = {"lab": folder / self._data.pop("folder", ""), "build": build}
        self._count = {}  # by the node's name as written: web-{n}
        for node in self._data["node"]:
            count = node.pop("count", None)
            if count is None:
                continue
            if backends is not None and backends < count:
                raise LabError(f"This lab has {count} {node['name']} or more, not {backends}.")
            self._count[node["name"]] = backends or count

    def topology(self):
        nodes, links, daemons = (self._data.pop(key) for key in ("node", "link", "daemon"))
        if self._data:
            raise ValueError(f"unknown: {', '.join(self._data)}")
        return Topology(
            [self._node(node) for raw in nodes for node in self._copies(raw, [raw["name"]])],
            [
                Link([End(**end) for end in link["ends"]])
                for raw in links
                for link in self._copies(raw, [end["node"] for end in raw["ends"]])
            ],
            [self._daemon(raw) for raw in daemons],
        )

    def _copies(self, raw, names):
        """`raw` once for each value of {n} that the node `names` in it ask for."""
        counts = [self._count[name] for name in names if name in self._count]
        numbers = range(1, max(counts) + 1) if counts else [None]
        return [self._fill(raw, n=number) for number in numbers]

    def _node(self, raw):
        words = {"node": raw["name"], "run": self._run / raw["name"], **self._words}
        raw = self._fill(raw, **words)
        services = [Service(**service) for service in raw.pop("service", [])]
        node = Node(**raw, service=services)
        node.sysctls = {**self._sysctls, **node.sysctls}
        return node

    def _daemon(self, raw):
        raw = self._fill(raw, **self._words)
        nics = [Nic(nic["name"], End(**nic["own"]), End(**nic["far"])) for nic in raw.pop("nic")]
        return Daemon(**raw, nic=nics)

    def _fill(self, value, **words):
        """`value` with the {words} in its strings replaced; other words stay for later."""
        if isinstance(value, str):
            for word, text in words.items():
                value = value.replace("{" + word + "}", str(text))
            return value
        if isinstance(value, list):
            return [self._fill(item, **words) for item in value]
        if isinstance(value, dict):
            return {key: self._fill(item, **words) for key, item in value.items()}
        return value
