"""The daemon as a process: how it starts, stops, and comes back."""

import contextlib
import hashlib
import os
import re
import subprocess

import pytest

from alone import REPOSITORY, alone
from labkit import wait_until
from labkit.traffic import Download, ask, get, session

DAEMON = "balancer/guidewayd"


def start_by_hand(lab, config, wrapper=()):
    """Runs a guidewayd on the balancer that is expected to end by itself; a CompletedProcess."""
    argv = [*wrapper, f"{lab.options.build}/lb/guidewayd", "--config", str(config)]
    argv += ["--state_directory", str(config.parent / "state")]
    argv = lab.command("balancer", argv)
    return subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)


def assert_refused(done, named):
    """It ended with an error, and said, beside its log, one sentence that names what is wrong."""
    assert done.returncode == 1
    log_line = re.compile(r"[IWEF]\d{8} ")
    [said] = [line for line in done.stderr.splitlines() if not log_line.match(line)]
    assert named in said


@pytest.fixture
def variant(lab, tmp_path):
    """variant({text: replacement}): the lab's configuration changed, with a socket of its own."""

    def write(changes):
        text = lab.config_file("balancer").read_text()
        changes = {str(lab.socket("balancer")): str(tmp_path / "guideway.sock"), **changes}
        for old, new in changes.items():
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "variant.yaml"
        path.write_text(text)
        return path

    return write


def test_kill_and_restart_keeps_connections(lab):
    """Without its flow table the new process sends every packet where the old one did."""
    file = lab.shared / "slow.bin"
    file.write_bytes(os.urandom(32 << 20))
    with contextlib.ExitStack() as stack:
        sessions = [stack.enter_context(session(lab, timeout_s=20)) for _ in range(60)]
        first = [ask(s).backend for s in sessions]
        downloads = [Download(lab, "/files/slow.bin", pace=1 << 20) for _ in range(6)]

        lab.kill(DAEMON)
        lab.start(DAEMON)

        assert [ask(s).backend for s in sessions] == first
        for download in downloads:
            download.finish()
            assert download.error == ""
            assert download.digest == hashlib.sha256(file.read_bytes()).hexdigest()


def test_sigterm_stops_cleanly(lab):
    assert lab.stop(DAEMON) == 0
    assert not lab.socket("balancer").exists()
    done = lab.guideway("status")
    assert done.returncode == 1
    assert str(lab.socket("balancer")) in done.stderr

    lab.start(DAEMON)
    wait_until(lambda: get(lab).status == 200, "an answer")


def test_a_second_daemon_on_the_same_socket(lab, variant):
    socket = str(lab.socket("balancer"))
    uplink = "net_tap0,iface=gw-uplink"
    done = start_by_hand(lab, variant({uplink: "net_null0", socket: socket}))
    assert_refused(done, socket)
    assert get(lab).status == 200
    assert lab.ask("status")["state"] == "serving"


def test_a_missing_device(lab, variant):
    uplink = "net_tap0,iface=gw-uplink"
    missing = "net_af_packet0,iface=nowhere0"
    assert_refused(start_by_hand(lab, variant({uplink: missing})), "nowhere0")


def test_a_missing_core(lab, variant):
    config = variant({"  idle: backoff": "  idle: backoff\n  workers: [999]"})
    assert_refused(start_by_hand(lab, config), "999")


def test_the_whole_schema_is_served(tmp_path):
    """What this version does not act on yet is a warning, and keeps nothing from being served."""
    text = (REPOSITORY / "examples/edge.yaml").read_text()
    for old, new in {
        '"0000:3b:00.0"': "net_ring0",
        '"0000:3b:00.1"': "net_ring1",
        "workers: [2, 3, 4, 5]": "hugepages: false",
        "flows_per_worker: 4194304": "flows_per_worker: 65536",
        "socket: /run/guideway/guideway.sock": f"socket: {tmp_path}/guideway.sock",
    }.items():
        assert old in text
        text = text.replace(old, new)
    with alone(tmp_path) as daemon:
        daemon.config.write_text(text)
        daemon.start()
        warnings = daemon.ask("status")["warnings"]
        log = daemon.log.read_text()
    for key in ("interfaces[uplink0].kernel_interface", "routing", "announce"):
        [warning] = [w for w in warnings if f": {key}: " in w]
        assert re.match(rf"{daemon.config}:\d+:\d+: ", warning)
        assert warning in log


def test_a_missing_file(lab, tmp_path):
    assert_refused(start_by_hand(lab, tmp_path / "nothing.yaml"), "nothing.yaml")


def test_without_permission(lab, variant):
    config = variant({"net_tap0,iface=gw-uplink": "net_tap0,iface=other0"})
    powerless = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    assert_refused(start_by_hand(lab, config, powerless), "CAP_NET_ADMIN")
