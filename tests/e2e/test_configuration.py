"""Changes of the configuration while clients are served."""

import re
import signal

import pytest

from observe import config_error, states, wait_state, weights
from labkit import wait_until
from labkit.traffic import Load, get, spread, unfair

WEB_4 = {"name": "web-4", "address": "10.0.0.14", "weight": 100}


def revision(lab):
    return int(lab.ask("status")["revision"])


def reload(lab):
    lab.signal("balancer/guidewayd", signal.SIGHUP)


def test_apply_under_load_fails_no_request(lab):
    """A backend comes and goes: it is drained before it is taken out, as an operator would."""
    config = lab.config()
    backends = config["services"][0]["backends"]
    with Load(lab) as load:
        for _ in range(5):
            backends.append(WEB_4)
            assert lab.apply(config).returncode == 0
            wait_state(lab, "up", "web/web-4")
            assert "web-4" in spread(load.wait_for(100))
            lab.ask("drain", "web/web-4")
            assert "web-4" not in spread(load.wait_for(100))
            backends.remove(WEB_4)
            assert lab.apply(config).returncode == 0
    assert load.failures() == []


def test_sighup_under_load_fails_no_request(lab):
    file = lab.config_file("balancer")
    original = file.read_text()
    try:
        with Load(lab) as load:
            for weight in (10, 20, 30, 40, 50):
                file.write_text(original.replace("weight: 60", f"weight: {weight}"))
                reload(lab)
                wait_until(lambda: weights(lab)["web-2"] == weight, f"web-2 to weigh {weight}")
                load.wait_for(100)
        assert load.failures() == []
    finally:
        file.write_text(original)


def test_weights_change(lab):
    config = lab.config()
    for backend, weight in zip(config["services"][0]["backends"], (10, 100, 40)):
        backend["weight"] = weight
    assert lab.apply(config).returncode == 0
    assert unfair(spread(get(lab) for _ in range(2000)), weights(lab)) == []
    assert weights(lab) == {"web-1": 10, "web-2": 100, "web-3": 40}


# What is broken: text of the file, what replaces it, what the error must name.
BROKEN = [
    pytest.param("forwarding: ipip", "forwarding: pigeon", "pigeon", id="bad value"),
    pytest.param("protocol: tcp", "protokol: tcp", "protokol", id="unknown key"),
    pytest.param("weight: 60", "weight: 60, weight: 61", "weight", id="key twice"),
    pytest.param("address: 10.0.0.12", "address: 10.0.0", "10.0.0", id="bad address"),
    pytest.param("services:", "services: [", "", id="no YAML"),
]


@pytest.mark.parametrize("good, bad, named", BROKEN)
def test_a_broken_file_changes_nothing_and_says_where(lab, tmp_path, good, bad, named):
    before = (revision(lab), states(lab), weights(lab))
    file = lab.config_file("balancer")
    original = file.read_text()
    broken = original.replace(good, bad, 1)
    assert broken != original

    applied = tmp_path / "broken.yaml"
    applied.write_text(broken)
    done = lab.guideway("apply", str(applied))
    assert done.returncode == 1
    assert re.search(rf"{re.escape(str(applied))}:\d+:\d+: .*{re.escape(named)}", done.stderr)

    # An apply that works clears the error, so that the one of the reload is seen to come.
    lab.ask("apply", str(file))
    assert config_error(lab) == ""
    before = (before[0] + 1, *before[1:])
    try:
        file.write_text(broken)
        reload(lab)
        said = wait_until(lambda: config_error(lab), "the reload to be refused")
        assert re.search(rf"{re.escape(str(file))}:\d+:\d+: .*{re.escape(named)}", said)
    finally:
        file.write_text(original)

    assert (revision(lab), states(lab), weights(lab)) == before
    assert get(lab).status == 200
