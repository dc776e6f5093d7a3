"""What is in force after a crash or a restart, and going back, by the real daemon and files."""

import json
import signal
import stat
import subprocess

import pytest

from alone import BUILD, NODE, alone
from labkit import wait_until


@pytest.fixture
def daemon(tmp_path):
    with alone(tmp_path) as it:
        yield it


def changed(daemon, weight, more=""):
    """The daemon's configuration with a second backend of that weight, as a file of its own."""
    path = daemon.folder / f"weight-{weight}.yaml"
    two = f"backends: [{{ name: web-2, address: 10.0.0.12, weight: {weight} }}, "
    path.write_text(daemon.config.read_text().replace("backends: [", two) + more)
    return path


def weights(daemon):
    """{backend: weight in force}."""
    return {b["name"]: b["weight"] for b in daemon.ask("get", "backends")["backends"]}


def crash_and_start(daemon):
    daemon.stop(signal.SIGKILL)
    daemon.start()


def run_another(daemon):
    """A daemon with the same file that is expected to end by itself; a CompletedProcess."""
    argv = ["ip", "netns", "exec", NODE, str(BUILD / "lb/guidewayd"), "--config", str(daemon.config)]
    argv += ["--state_directory", str(daemon.folder / "state")]
    return subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)


def log(daemon):
    return daemon.log.read_text()


def test_after_a_crash_the_same_is_in_force(daemon):
    daemon.start()
    daemon.ask("apply", str(changed(daemon, 70)))
    daemon.ask("weight", "web/web-1", "30")
    daemon.ask("drain", "web/web-2")
    before = daemon.ask("get", "backends")["backends"]

    crash_and_start(daemon)

    after = daemon.ask("get", "backends")["backends"]
    kept = ("name", "weight", "file_weight", "weight_by_hand", "drained_by_hand", "share")
    assert [[b[key] for key in kept] for b in after] == [[b[key] for key in kept] for b in before]
    assert weights(daemon) == {"web-2": 70, "web-1": 30}
    status = daemon.ask("status")
    assert (status["revision"], status["how"], status["configuration"]) == ("5", "start", "applied")
    assert status["applied_file"].endswith("weight-70.yaml")
    assert status["warnings"] == [w for w in status["warnings"] if "hash_seed" in w]
    assert "weight web/web-1 30 (file: 100)" in daemon.guideway("status")

    history = daemon.ask("history")["revisions"]
    assert [(r["number"], r["who"], r["how"]) for r in history] == [
        ("1", "start", "start"),
        ("2", "root", "apply"),
        ("3", "root", "weight web/web-1 30"),
        ("4", "root", "drain web/web-2"),
        ("5", "start", "start"),
    ]
    assert daemon.guideway("history", "2") == changed(daemon, 70).read_text()


def test_a_changed_file_wins_and_a_broken_one_yields(daemon):
    daemon.start()
    daemon.ask("weight", "web/web-1", "30")
    daemon.ask("apply", str(changed(daemon, 70)))
    original = daemon.config.read_text()

    daemon.config.write_text(changed(daemon, 20).read_text())
    crash_and_start(daemon)
    assert weights(daemon) == {"web-2": 20, "web-1": 30}
    assert daemon.ask("status")["configuration"] == "file"

    for broken in (original.replace("protocol: tcp", "protokol: tcp"), "{", ""):
        daemon.config.write_text(broken)
        crash_and_start(daemon)
        assert weights(daemon) == {"web-2": 20, "web-1": 30}
        status = daemon.ask("status")
        assert status["configuration"] == "last revision"
        assert status["config_error"].startswith(f"{daemon.config}:")
        said = daemon.guideway("status")
        assert f"{daemon.config} could not be used" in said
        assert f"{daemon.config} was refused at the start:" in said
        assert status["config_error"].splitlines()[0] in log(daemon)

    daemon.config.unlink()
    crash_and_start(daemon)
    assert "No such file" in daemon.ask("status")["config_error"]

    daemon.config.write_text(original)
    crash_and_start(daemon)
    assert weights(daemon) == {"web-1": 30}
    assert daemon.ask("status")["config_error"] == ""


def test_a_broken_file_at_the_first_start_is_refused(daemon):
    daemon.config.write_text("services: 3\n")
    done = run_another(daemon)
    assert done.returncode == 1
    assert f"{daemon.config}:1:11: " in done.stderr


def test_files_that_are_named_belong_to_the_revision(daemon):
    deny = daemon.folder / "deny.txt"
    deny.write_text("192.0.2.0/24\n")
    with daemon.config.open("a") as file:
        file.write("access: { deny_files: [deny.txt] }\n")
    daemon.start()
    deny.write_text("nonsense\n")
    crash_and_start(daemon)
    assert daemon.ask("status")["configuration"] == "last revision"
    assert f"{deny}:1:1: " in daemon.ask("status")["config_error"]
    texts = [p.read_text() for p in (daemon.folder / "state").glob("*/texts/*")]
    assert "192.0.2.0/24\n" in texts and "nonsense\n" not in texts

    # Another list by a reload, and back without a look at the file.
    deny.write_text("203.0.113.0/24\n")
    daemon.send_signal(signal.SIGHUP)
    wait_until(lambda: daemon.ask("status")["how"] == "reload", "the reload")
    deny.unlink()
    assert daemon.ask("rollback")["rolled_back_to"] == "2"


def test_rollback_restores_and_says_who(daemon):
    daemon.start()
    daemon.ask("apply", str(changed(daemon, 70)))
    daemon.ask("drain", "web/web-2")
    daemon.ask("apply", "--discard-overrides", str(changed(daemon, 20)))
    assert "revision 3 is in force again" in daemon.guideway("rollback")
    assert weights(daemon) == {"web-2": 70, "web-1": 100}
    assert [o["backend"] for o in daemon.ask("status")["overrides"]] == ["web-2"]
    daemon.ask("rollback", "1")
    assert weights(daemon) == {"web-1": 100}
    crash_and_start(daemon)
    assert weights(daemon) == {"web-1": 100}
    lines = daemon.guideway("history").splitlines()
    assert len(lines) == 8 and "root" in lines[5] and "rollback to 3" in lines[5]


def test_a_second_daemon_does_not_write_there(daemon):
    daemon.start()
    before = daemon.guideway("history")
    done = run_another(daemon)
    assert done.returncode == 1 and "another guidewayd" in done.stderr
    assert daemon.guideway("history") == before


def test_a_directory_that_cannot_be_written(daemon):
    """The change takes effect, and everybody is told."""
    daemon.start()
    [home] = (daemon.folder / "state").iterdir()
    revisions = home / "revisions"
    revisions.rename(home / "away")
    revisions.write_text("in the way")
    daemon.ask("weight", "web/web-1", "30")
    assert weights(daemon) == {"web-1": 30}
    said = "revision 2 is in force and not kept"
    assert any(said in w for w in daemon.ask("status")["warnings"])
    assert any(said in e["text"] for e in daemon.ask("get", "events")["events"])
    assert said in log(daemon)

    revisions.unlink()
    (home / "away").rename(revisions)
    daemon.ask("weight", "web/web-1", "31")
    assert not any(said in w for w in daemon.ask("status")["warnings"])
    crash_and_start(daemon)
    assert weights(daemon) == {"web-1": 31}


def test_broken_records_are_left_out_by_name(daemon):
    daemon.start()
    daemon.ask("weight", "web/web-1", "30")
    daemon.ask("weight", "web/web-1", "31")
    daemon.stop(signal.SIGKILL)
    [home] = (daemon.folder / "state").iterdir()
    last = home / "revisions/3.json"
    last.write_text(last.read_text()[:100])
    daemon.start()
    assert weights(daemon) == {"web-1": 30}
    status = daemon.ask("status")
    assert status["revision"] == "4"
    assert any(f"{last} is left out" in w for w in status["warnings"])


def test_nobody_else_may_read_it(daemon):
    daemon.start()
    [home] = (daemon.folder / "state").iterdir()
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    for path in home.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)
    json.loads((home / "revisions/1.json").read_text())
