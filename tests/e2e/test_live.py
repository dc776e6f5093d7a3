"""Looking into the running packet path, and at a change before it is made."""

import contextlib
import json
import subprocess

import yaml

from observe import config_error, states, wait_state
from labkit import wait_until
from labkit.traffic import VIP, ask, echo, session


def packet_of(connection, flags=""):
    """The connection's packets, as `explain` takes them."""
    client, port = connection.sock.getsockname()
    return f"tcp {client}:{port} > {VIP}:80{flags}"


def flow_counts(lab, *words):
    """{backend: flows} of `get flows`, all states together."""
    counts = {}
    for count in lab.ask("get", "flows", *words)["counts"]:
        counts[count["backend"]] = counts.get(count["backend"], 0) + int(count["flows"])
    return counts


def planned(lab, config, *words):
    """What `guideway plan`, or another verb, says of a changed configuration; a CompletedProcess."""
    path = lab.folder("balancer") / "planned.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return lab.guideway(*(words or ("plan", "-o", "json")), str(path))


def revision(lab):
    return int(lab.ask("status")["revision"])


def test_open_connections_show(lab):
    with contextlib.ExitStack() as stack:
        sessions = [stack.enter_context(session(lab)) for _ in range(30)]
        backends = [ask(s).backend for s in sessions]
        echo(lab)
        counts = flow_counts(lab, "--service", "web")
        for name in set(backends):
            assert counts[name] >= backends.count(name), counts
            assert flow_counts(lab, "--backend", f"web/{name}").keys() == {name}
        assert "udp" in {c["state"] for c in lab.ask("get", "flows", "--service", "echo")["counts"]}

        done = lab.guideway("get", "flows", "--entries", "-o", "json")
        assert done.returncode == 0
        entries = [json.loads(line) for line in done.stdout.splitlines()]
        cores = {worker["core"] for worker in lab.ask("get", "workers")["workers"]}
        assert {entry["core"] for entry in entries} <= cores
        for name in set(backends):
            here = [e for e in entries if (e["service"], e["backend"]) == ("web", name)]
            assert len(here) >= backends.count(name)
        assert lab.guideway("get", "flows").stdout.splitlines()[0].split()[:4] == [
            "SERVICE", "BACKEND", "STATE", "FLOWS"]


def test_a_connection_is_explained(lab):
    before = lab.ask("status")["packets"]
    with contextlib.ExitStack() as stack:
        sessions = [stack.enter_context(session(lab)) for _ in range(10)]
        for connection in sessions:
            backend = ask(connection).backend
            found = lab.ask("get", "flows", "--flow", packet_of(connection))
            assert found["found"]
            assert [e["backend"] for e in found["entries"]] == [backend]
            said = lab.ask("explain", packet_of(connection))
            assert (said["verdict"], said["flow"], said["backend"]) == ("forward", "hit", backend)
            assert any(f"has the connection: {backend}, established" in s for s in said["steps"])
            assert any(h.startswith("IPv4 192.0.2.1 > 10.0.0.1") for h in said["headers"])

        # A connection of the one who is asked about stays through a drain; a new one would not.
        lab.ask("drain", f"web/{backend}")
        assert lab.ask("explain", packet_of(connection))["backend"] == backend
        anew = lab.ask("explain", packet_of(connection, " syn"))
        assert (anew["flow"], anew["backend"] != backend) == ("new", True)
        assert ask(connection).backend == backend
        lab.ask("undrain", f"web/{backend}")

    nobody = "tcp 203.0.113.7:40000 > 198.51.100.10:80"
    assert lab.guideway("get", "flows", "--flow", nobody).returncode == 1
    said = lab.ask("explain", nobody + " syn")
    assert said["flow"] == "new" and said["home"] == said["backend"]
    offline = subprocess.run(
        [f"{lab.options.build}/tools/guideway", "explain", "-o", "json",
         "--config", str(lab.config_file("balancer")), nobody + " syn"],
        capture_output=True, text=True, check=True)
    assert json.loads(offline.stdout)["backend"] == said["backend"]
    assert lab.guideway("get", "flows", "--flow", nobody).returncode == 1, "nothing was entered"
    assert lab.ask("status")["packets"]["drops"] == before["drops"]


def test_explain_goes_by_the_health_of_the_moment(lab):
    nobody = "tcp 203.0.113.7:40001 > 198.51.100.10:80 syn"
    home = lab.ask("explain", nobody)["backend"]
    (lab.folder(home) / "unhealthy").touch()
    wait_state(lab, "down", f"web/{home}")
    said = lab.ask("explain", nobody)
    assert said["home"] == home and said["backend"] != home
    assert any("takes no new connections" in step for step in said["steps"])


def test_a_plan_tells_of_open_connections(lab):
    with contextlib.ExitStack() as stack:
        sessions = [stack.enter_context(session(lab)) for _ in range(30)]
        backends = [ask(s).backend for s in sessions]
        config = lab.config()
        gone = config["services"][0]["backends"].pop(0)["name"]
        before = revision(lab)
        done = planned(lab, config)
        assert done.returncode == 0, done.stderr
        plan = json.loads(done.stdout)
        web = plan["services"][0]
        assert (web["name"], web["change"]) == ("web", "changed")
        assert [(b["name"], b["change"]) for b in web["backends"]] == [(gone, "removed")]
        assert int(web["backends"][0]["open_connections"]) >= backends.count(gone) > 0
        assert web["moved"] >= web["moved_necessary"] > 0
        assert f"backend {gone} removed, with " in planned(lab, config, "plan").stdout
        assert revision(lab) == before
        assert f"web/{gone}" in states(lab)
        assert [ask(s).backend for s in sessions] == backends, "nobody was moved"


def test_a_plan_of_a_broken_file(lab):
    config = lab.config()
    config["services"][0]["backends"][0]["wait"] = 3
    done = planned(lab, config)
    assert done.returncode == 1
    assert "planned.yaml:" in done.stderr and "wait" in done.stderr
    assert config_error(lab) == ""


def test_no_more_moves_than_may(lab):
    with contextlib.ExitStack() as stack:
        sessions = [stack.enter_context(session(lab)) for _ in range(10)]
        backends = [ask(s).backend for s in sessions]
        before, was = revision(lab), states(lab)
        config = lab.config()
        config["services"][0]["backends"].pop(0)
        done = planned(lab, config, "apply", "--max-moved", "2%")
        assert done.returncode == 1
        assert "of service web's new connections would move, and no more than 2% may" in done.stderr
        assert revision(lab) == before and states(lab) == was
        assert [ask(s).backend for s in sessions] == backends

        config = lab.config()
        config["services"][0]["backends"][0]["weight"] += 1
        done = planned(lab, config, "apply", "--max-moved", "20%")
        assert done.returncode == 0, done.stderr
        assert " changed: weight: " in done.stdout
        assert [ask(s).backend for s in sessions] == backends
        wait_until(lambda: revision(lab) == before + 1, "the change to be in force")
