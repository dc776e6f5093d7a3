"""Who may use the control socket: real users, real groups, curl and `guideway`."""

import json
import os
import pathlib
import subprocess
import tempfile

import pytest

from alone import BUILD, alone

# Groups that every Debian has, and a user of none of them.
CHANGERS, READERS = "daemon", "adm"
NOBODY = 65534
DRAIN = json.dumps({"service": "web", "backend": "web-1"})


def as_user(*groups):
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}",
            f"--groups={','.join(groups)}" if groups else "--clear-groups"]  # fmt: skip


def curl(daemon, groups, path, *more):
    """(HTTP status, body); the status 0 if there was no connection."""
    argv = [*as_user(*groups), "curl", "-s", "-w", "\n%{http_code}", "--unix-socket", str(daemon.socket),
            f"http://guideway{path}", *more]  # fmt: skip
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body


@pytest.fixture
def start(tmp_path):
    """start(control): a daemon whose socket is where everybody can get at it."""
    with tempfile.TemporaryDirectory() as folder, alone(pathlib.Path(folder)) as daemon:
        os.chmod(folder, 0o755)

        def with_keys(keys):
            text = daemon.config.read_text()
            daemon.config.write_text(text.replace("control: { ", f"control: {{ {keys}, "))
            daemon.start()
            return daemon

        yield with_keys


def test_readers_read_and_only_the_group_changes(start):
    daemon = start(f"group: {CHANGERS}, readers: {READERS}")
    assert daemon.socket.group() == CHANGERS

    status, body = curl(daemon, [READERS], "/v1/status")
    assert status == 200
    assert json.loads(body)["state"] == "serving"
    status, body = curl(daemon, [READERS], "/v1/drain", "-d", DRAIN)
    assert status == 403
    assert f"adduser USER {CHANGERS}" in json.loads(body)["error"]
    for path in ("/v1/status", "/v1/drain", "/v1/apply"):
        status, body = curl(daemon, [], path)
        assert status == 403
        assert "may not use the control socket" in json.loads(body)["error"]
    assert not daemon.ask("get", "backends")["backends"][0]["drained_by_hand"]

    status, _ = curl(daemon, [READERS, CHANGERS], "/v1/drain", "-d", DRAIN)
    assert status == 200
    assert daemon.ask("get", "backends")["backends"][0]["drained_by_hand"]

    argv = [*as_user(READERS), str(BUILD / "tools/guideway"), "undrain", "web/web-1", "--socket", str(daemon.socket)]
    refused = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert f"members of the group {CHANGERS}" in refused.stderr
    assert daemon.stop() == 0


def test_without_readers_only_the_group_connects(start):
    daemon = start(f"group: {CHANGERS}")
    assert curl(daemon, [], "/v1/status")[0] == 0
    assert curl(daemon, [CHANGERS], "/v1/status")[0] == 200
    argv = [*as_user(), str(BUILD / "tools/guideway"), "status", "--socket", str(daemon.socket)]
    refused = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert f"run as root or as a member of the group {CHANGERS}" in refused.stderr


def test_a_group_that_is_not_there_ends_the_start(start):
    with pytest.raises(AssertionError, match=r'guideway\.yaml:\d+:\d+: control\.group: found "no-such-group"'):
        start("group: no-such-group")
