"""Programs of DPDK, in the foreground of this one: guidewayd outside of a lab, and its rivals."""

import contextlib
import itertools
import json
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import time

import yaml

from labkit import LabError, wait_until
from labkit.process import last_words

_START_S = 60  # a thousand tables take their time
_STOP_S = 20
_numbers = itertools.count(1)


def check(build):
    """That the build directory has what a Guidewayd needs."""
    for program in ("lb/guidewayd", "tools/guideway"):
        if not (pathlib.Path(build) / program).exists():
            raise LabError(f"{build}/{program} is missing; ./tools/build makes it.")


class Program:
    """A program of DPDK that runs as long as the block lasts.

    It takes its memory from huge pages alone, has files of its own, and is asked over EAL's
    telemetry socket, so that every program is measured alike.
    """

    def __init__(self):
        self._prefix = f"guideway-bench-{os.getpid()}-{next(_numbers)}"
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="guideway-bench-"))
        self.log = self.folder / "log"
        self._process = None
        self._telemetry = None

    def argv(self, eal):
        """The command line, with `eal` for arguments of EAL in it."""
        raise NotImplementedError

    def ready(self):
        """Whether it answers what it will be asked."""
        return self._connect()

    @property
    def pid(self):
        return self._process.pid

    def __enter__(self):
        try:
            argv = self.argv(["--in-memory", f"--file-prefix={self._prefix}"])
            with self.log.open("wb") as log:
                self._process = subprocess.Popen(
                    argv, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
                )
            self.wait(self.ready, "to answer", _START_S)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self._telemetry:
            self._telemetry.close()
        if self._process:
            self._process.terminate()
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process.stdin.close()
        shutil.rmtree(self._runtime, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def wait(self, condition, what, deadline_s=30):
        """Waits for a condition for as long as the program lives."""

        def alive():
            if self._process.poll() is not None:
                name = type(self).__name__.lower()
                raise LabError(f"{name} ended at once: {last_words(self.log)}")
            return condition()

        return wait_until(alive, f"{type(self).__name__.lower()} {what}", deadline_s)

    def packets(self):
        """(moment, received, sent): what the driver of the first port has counted, and when."""
        before = time.monotonic()
        stats = self._ask("/ethdev/stats,0")
        moment = (before + time.monotonic()) / 2
        return moment, stats["ipackets"], stats["opackets"]

    @property
    def _runtime(self):
        base = os.environ.get("RUNTIME_DIRECTORY") or "/var/run"
        return pathlib.Path(base) / "dpdk" / self._prefix

    def _connect(self):
        path = self._runtime / "dpdk_telemetry.v2"
        if not path.exists():
            return False
        self._telemetry = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._telemetry.settimeout(_STOP_S)
        with contextlib.suppress(ConnectionRefusedError):
            self._telemetry.connect(str(path))
            self._telemetry.recv(1 << 16)  # its greeting
            return bool(self._ask("/ethdev/list"))
        return False

    def _ask(self, command):
        """What telemetry answers to `command`; None if it does not know it yet."""
        self._telemetry.send(command.encode())
        return json.loads(self._telemetry.recv(1 << 16)).get(command.split(",")[0])


class Testpmd(Program):
    """Debian's dpdk-testpmd, which swaps the two MAC addresses of each frame on one core."""

    def __init__(self, device, control_core, worker_core, buffers):
        super().__init__()
        self._device = device
        self._lcores = f"0@{control_core},1@{worker_core}"
        self._buffers = buffers

    def argv(self, eal):
        return [
            "dpdk-testpmd",
            *eal,
            *("--no-pci", "--iova-mode=va", f"--lcores={self._lcores}", "--main-lcore=0"),
            f"--vdev={self._device}",
            "--",
            *("--forward-mode=macswap", "--burst=32", "--nb-cores=1", "--rxq=1", "--txq=1"),
            f"--total-num-mbufs={self._buffers}",
        ]


class Guidewayd(Program):
    """guidewayd with a configuration (a mapping, to which the control socket is added)."""

    def __init__(self, build, config):
        super().__init__()
        self._build = pathlib.Path(build)
        self._socket = self.folder / "guideway.sock"
        self._config = self.folder / "guideway.yaml"
        config = {**config, "control": {"socket": str(self._socket)}}
        self._config.write_text(yaml.dump(config, Dumper=yaml.CSafeDumper, sort_keys=False))

    def argv(self, eal):
        daemon = str(self._build / "lb/guidewayd")
        state = ["--state_directory", str(self.folder / "state")]
        return [daemon, "--config", str(self._config), *state, f"--eal_args={' '.join(eal)}"]

    def ready(self):
        return self._socket.exists() and self._connect()

    def ask(self, *words):
        """What `guideway` answers, from JSON."""
        argv = [str(self._build / "tools/guideway"), *words, "-o", "json"]
        argv += ["--socket", str(self._socket)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise LabError(f"«guideway {' '.join(words)}» failed: {done.stderr.strip()}")
        return json.loads(done.stdout)
