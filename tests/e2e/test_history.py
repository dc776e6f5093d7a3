"""What is in force after a crash or a restart, and going back, by the real daemon and files."""

import json
import os
import re
import signal
import socket
import stat
import subprocess

import pytest

from alone import BUILD, NODE, alone
from labkit import namespace, wait_until


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
        assert f"\n! {daemon.config} at the start was refused " in said
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


def revisions(daemon):
    return list((daemon.folder / "state").glob("*/revisions/*"))


def test_a_start_that_serves_nothing_is_no_revision(daemon):
    good = daemon.config.read_text()
    daemon.config.write_text(good.replace("control: {", 'control: { http: "127.0.0.1:9919",'))
    with namespace.inside(NODE):
        taken = socket.create_server(("127.0.0.1", 9919))
    with taken:
        done = run_another(daemon)
    assert done.returncode == 1
    [said] = [line for line in done.stderr.splitlines() if line.startswith(f"{daemon.config}:")]
    assert re.match(rf"{daemon.config}:\d+:\d+: control.http: found 127.0.0.1:9919, .*Address already in use", said)
    assert revisions(daemon) == []

    daemon.start()
    assert daemon.ask("status")["revision"] == "1"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("dataplane: {", "dataplane: { workers: [0, 999],", "dataplane.workers[1]: found core 999"),
        ("control: {", "control: { group: nosuchgroup,", 'control.group: found "nosuchgroup"'),
        ("control: {", "control: { readers: nosuchgroup,", 'control.readers: found "nosuchgroup"'),
        ("control: {", 'control: { http: "127.0.0.1:9919",', "control.http: found 127.0.0.1:9919"),
        ("control: {", 'control: { http: "203.0.113.1:9919",', "Cannot assign requested address"),
        ("net_tap0,iface=far0", "net_af_packet0,iface=nowhere0", "nowhere0"),
        ("guideway.sock }", "guideway.yaml }", "is not a socket"),
    ],
)
def test_a_file_that_is_not_for_this_host_yields(daemon, old, new, says):
    daemon.start()
    daemon.ask("apply", str(changed(daemon, 70)))
    original = daemon.config.read_text()
    assert old in original
    daemon.config.write_text(original.replace(old, new))
    with namespace.inside(NODE):
        taken = socket.create_server(("127.0.0.1", 9919))
    with taken:
        crash_and_start(daemon)
    assert weights(daemon) == {"web-2": 70, "web-1": 100}
    status = daemon.ask("status")
    assert status["configuration"] == "last revision"
    assert re.match(rf"{daemon.config}:\d+:\d+: ", status["config_error"])
    assert says in status["config_error"]
    assert status["config_error"] in log(daemon)
    assert len(revisions(daemon)) == 3

    daemon.config.write_text(original)
    crash_and_start(daemon)
    assert weights(daemon) == {"web-2": 70, "web-1": 100}
    status = daemon.ask("status")
    assert (status["configuration"], status["config_error"]) == ("applied", "")


def test_what_this_host_can_do_again_is_in_force_again(daemon):
    daemon.start()
    daemon.config.write_text(
        changed(daemon, 70).read_text().replace("control: {", 'control: { http: "127.0.0.1:9919",')
    )
    with namespace.inside(NODE):
        taken = socket.create_server(("127.0.0.1", 9919))
    with taken:
        crash_and_start(daemon)
        assert weights(daemon) == {"web-1": 100}
    crash_and_start(daemon)
    assert weights(daemon) == {"web-2": 70, "web-1": 100}
    assert daemon.ask("status")["configuration"] == "file"


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


def test_a_plan_sees_what_is_in_files_that_are_named(daemon):
    deny = daemon.folder / "deny.txt"
    deny.write_text("192.0.2.0/24\n")
    with daemon.config.open("a") as file:
        file.write("access: { deny_files: [deny.txt] }\n")
    daemon.start()
    assert not daemon.ask("plan", str(daemon.config))["changes"]
    deny.write_text("10.0.0.0/8\n0.0.0.0/0\n")
    said = daemon.guideway("plan", str(daemon.config))
    assert "access.deny_files[deny.txt]: 2 prefixes added, 1 removed" in said
    assert daemon.ask("plan", str(daemon.config))["newly_denied_ipv4"] > 0.99
    argv = [str(BUILD / "tools/guideway"), "apply", "--max-moved", "2%", str(daemon.config), "--socket"]
    done = subprocess.run([*argv, str(daemon.socket)], capture_output=True, text=True)
    assert done.returncode == 1 and "of all IPv4 addresses more" in done.stderr
    status = daemon.ask("status")
    assert (status["revision"], status["config_error"]) == ("1", "")


def test_a_directory_that_cannot_be_written(daemon):
    """The change takes effect, and everybody is told."""
    daemon.start()
    [home] = (daemon.folder / "state").iterdir()
    revisions = home / "revisions"
    revisions.rename(home / "away")
    revisions.write_text("in the way")
    said = "revision 2 is in force and not kept"
    argv = [str(BUILD / "tools/guideway"), "weight", "web/web-1", "30", "--socket", str(daemon.socket)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert said in done.stderr
    assert weights(daemon) == {"web-1": 30}
    history = daemon.ask("status")["history"]
    assert not history["kept"] and history["not_kept_why"].startswith("Not a directory (cannot ")
    assert str(home) in history["not_kept_why"] and history["directory"] == str(home)
    since = f"{history['not_kept_since'][:10]} {history['not_kept_since'][11:19]} UTC"
    assert f"! history: not kept in {home} since {since}: Not a dir" in daemon.guideway("status")
    assert any(said in e["text"] for e in daemon.ask("get", "events")["events"])
    assert any(said in line for line in log(daemon).splitlines() if line.startswith("W"))

    revisions.unlink()
    (home / "away").rename(revisions)
    daemon.ask("weight", "web/web-1", "31")
    assert daemon.ask("status")["history"]["kept"]
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
    assert any(f"{last} is left out" in w for w in status["history"]["warnings"])
    assert f"{last} is left out" in daemon.guideway("status")


def test_nobody_else_may_read_it(daemon):
    daemon.start()
    [home] = (daemon.folder / "state").iterdir()
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    for path in home.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)
    json.loads((home / "revisions/1.json").read_text())


HANGING_FSYNC = """
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
int fsync(int fd) {
  while (access(getenv("DISK_HANGS"), F_OK) == 0) usleep(10000);
  return (int)syscall(SYS_fsync, fd);
}
int open64(const char* path, int flags, ...) {
  const char* file = getenv("FILE_THAT_HANGS");
  va_list more;
  va_start(more, flags);
  mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0;
  va_end(more);
  while (file && !strcmp(path, file) && access(getenv("FILE_HANGS"), F_OK) == 0) usleep(10000);
  return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}
"""


@pytest.fixture
def disk(tmp_path):
    """What makes a daemon's disk hang while its file `hangs` is there: variables of the environment."""
    source, library = tmp_path / "fsync.c", tmp_path / "fsync.so"
    source.write_text(HANGING_FSYNC)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    return {
        "LD_PRELOAD": str(library),
        "DISK_HANGS": str(tmp_path / "hangs"),
        "FILE_HANGS": str(tmp_path / "file_hangs"),
    }


@pytest.fixture
def hangs(daemon, tmp_path, disk):
    """The daemon runs, on a disk that hangs while this file is there; a drain waits for it."""
    file = tmp_path / "hangs"
    daemon.start(**disk)
    file.touch()
    argv = [str(BUILD / "tools/guideway"), "drain", "web/web-1", "--socket", str(daemon.socket)]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as drain:
        wait_until(lambda: drained(daemon), "the drain to be in force")
        assert drain.poll() is None, "it is answered, and not on disk"
        yield file
        file.unlink(missing_ok=True)
        drain.kill()


def drained(daemon):
    return daemon.ask("get", "backends")["backends"][0]["drained_by_hand"]


def test_a_stop_waits_for_the_disk(daemon, hangs):
    daemon.send_signal(signal.SIGTERM)
    wait_until(lambda: "SIGTERM: stopping" in log(daemon), "the stop to begin")
    hangs.unlink()
    assert daemon.process.wait(timeout=30) == 0
    assert "not on disk" not in log(daemon)
    daemon.start()
    assert drained(daemon)


def test_a_disk_that_hangs_holds_up_no_stop(daemon, hangs):
    assert daemon.stop() == 0
    assert "history: revision 2 not on disk, so the next start does not find it" in log(daemon)
    assert "stopped" in log(daemon)
    hangs.unlink()
    daemon.start()
    assert not drained(daemon)


def run(daemon, *words):
    """A CompletedProcess of `guideway`."""
    argv = [str(BUILD / "tools/guideway"), *words, "--socket", str(daemon.socket)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)


def test_whoever_waits_for_a_disk_that_hangs_is_answered(daemon, hangs):
    done = run(daemon, "undrain", "web/web-1")
    assert done.returncode == 0
    assert "is in force and not kept yet: the disk has not answered for 10s" in done.stderr
    assert not drained(daemon)
    history = daemon.ask("status")["history"]
    assert not history["kept"]
    assert history["not_kept_why"] == "the disk has not answered for 10s"
    refused = run(daemon, "rollback", "1")
    assert refused.returncode == 1
    assert "revision 1 could not be read within 10s" in refused.stderr
    hangs.unlink()
    wait_until(
        lambda: daemon.ask("status")["history"]["kept"],
        "the history to be kept again",
    )
    daemon.guideway("rollback", "1")


def test_a_disk_that_hangs_at_the_first_start(daemon, disk, tmp_path):
    """Its directories are never made: the daemon serves the file, without a history."""
    (tmp_path / "hangs").touch()
    daemon.start(**disk)
    status = daemon.ask("status")
    why = "has not answered for 10s at the start"
    assert not status["history"]["kept"]
    assert why in status["history"]["not_kept_why"]
    assert status["history"]["directory"].startswith(f"{daemon.folder / 'state'}/")
    assert status["configuration"] == "file"
    assert why in run(daemon, "drain", "web/web-1").stderr
    assert drained(daemon)
    assert daemon.stop() == 0, "the thread that hangs is left alone"
    assert "stopped" in log(daemon)

    daemon.config.write_text("broken")
    argv = ["ip", "netns", "exec", NODE, str(BUILD / "lb/guidewayd"), "--config", str(daemon.config)]
    argv += ["--state_directory", str(tmp_path / "other")]
    refused = subprocess.run(
        argv, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **disk}
    )
    assert refused.returncode == 1
    assert f"{daemon.config}:1:1" in refused.stderr
    assert why in refused.stderr


def test_a_start_waits_for_a_disk_that_hangs_and_not_for_long(daemon, disk, tmp_path):
    """What was before can be read; that it has started again cannot be written."""
    daemon.start(**disk)
    daemon.ask("apply", str(changed(daemon, 70)))
    assert daemon.stop() == 0
    hangs = tmp_path / "hangs"
    hangs.touch()
    daemon.start(**disk)
    assert weights(daemon) == {"web-2": 70, "web-1": 100}
    assert "history: revision 3 not on disk" in log(daemon)
    wait_until(
        lambda: not daemon.ask("status")["history"]["kept"],
        "the status to say so",
    )
    hangs.unlink()
    wait_until(
        lambda: daemon.ask("status")["history"]["kept"],
        "the history to be kept",
    )
    daemon.stop(signal.SIGKILL)
    daemon.start()
    assert daemon.ask("status")["revision"] == "4"


def test_a_file_that_hangs_holds_up_no_stop(daemon):
    daemon.start()
    daemon.config.unlink()
    os.mkfifo(daemon.config)
    writer = os.open(daemon.config, os.O_RDWR)  # and nothing ever comes
    try:
        daemon.send_signal(signal.SIGHUP)
        wait_until(lambda: "reading the configuration again" in log(daemon), "the reload to begin")
        daemon.ask("drain", "web/web-1")
        assert daemon.stop() == 0
        assert "stopped" in log(daemon)
    finally:
        os.close(writer)


def test_the_history_does_not_wait_for_a_file_that_hangs(daemon, disk, tmp_path):
    """Its own disk answers: the file counts as what it was when it last answered."""
    other = changed(daemon, 70)
    daemon.start(**disk, FILE_THAT_HANGS=str(daemon.config))
    (tmp_path / "file_hangs").touch()
    done = run(daemon, "apply", str(other))
    assert done.returncode == 0
    assert "not kept" not in done.stderr
    assert weights(daemon) == {"web-2": 70, "web-1": 100}
    assert daemon.stop() == 0
    assert "not on disk" not in log(daemon)
    (tmp_path / "file_hangs").unlink()
    daemon.start()
    assert weights(daemon) == {"web-2": 70, "web-1": 100}, "what was applied is in force still"
