"""Backends that fall ill and recover."""

import contextlib
import signal

from observe import health, states, wait_state, weights
from labkit import wait_until
from labkit.traffic import ask, get, session, spread, unfair


def without(weights, *names):
    return {name: weight for name, weight in weights.items() if name not in names}


def test_a_dead_backend_is_ejected_and_returns(lab):
    lab.kill("web-1/nginx")
    wait_state(lab, "down", "web/web-1", "echo/web-1")
    counts = spread(get(lab) for _ in range(1000))
    assert unfair(counts, without(weights(lab), "web-1")) == []

    lab.start("web-1/nginx")
    wait_state(lab, "up", "web/web-1", "echo/web-1")
    counts = spread(get(lab) for _ in range(1000))
    assert unfair(counts, weights(lab)) == []


def test_a_hung_backend_is_ejected_and_returns(lab):
    """Its kernel takes connections, but nobody answers; the other service has a TCP check."""
    lab.signal("web-1/nginx", signal.SIGSTOP)
    try:
        wait_state(lab, "down", "web/web-1")
        assert "timeout" in health(lab)["web/web-1"]
        assert states(lab)["echo/web-1"] == "up"
        counts = spread(get(lab) for _ in range(300))
        assert unfair(counts, without(weights(lab), "web-1")) == []
    finally:
        lab.signal("web-1/nginx", signal.SIGCONT)
    wait_state(lab, "up", "web/web-1")
    assert unfair(spread(get(lab) for _ in range(1000)), weights(lab)) == []


def test_a_dead_backend_is_ejected_after_a_restart(lab):
    """At its start the daemon takes every backend for up."""
    lab.kill("web-1/nginx")
    wait_state(lab, "down", "web/web-1", "echo/web-1")
    lab.kill("balancer/guidewayd")
    lab.start("balancer/guidewayd")
    wait_state(lab, "down", "web/web-1", "echo/web-1")
    counts = spread(get(lab) for _ in range(300))
    assert unfair(counts, without(weights(lab), "web-1")) == []


def test_connections_of_the_others_do_not_move(lab):
    with contextlib.ExitStack() as stack:
        sessions = [stack.enter_context(session(lab)) for _ in range(60)]
        first = [ask(s).backend for s in sessions]
        lab.kill("web-2/nginx")
        wait_state(lab, "down", "web/web-2")
        kept = [(s, backend) for s, backend in zip(sessions, first) if backend != "web-2"]
        assert {ask(s).backend == backend for s, backend in kept} == {True}
        lab.start("web-2/nginx")
        wait_state(lab, "up", "web/web-2")
        assert {ask(s).backend == backend for s, backend in kept} == {True}


def test_a_sick_backend_is_judged_by_its_answer(lab):
    """It works, but its health check says otherwise; the other service has a TCP check."""
    sickness = lab.folder("web-3") / "unhealthy"
    sickness.touch()
    wait_state(lab, "down", "web/web-3")
    assert states(lab)["echo/web-3"] == "up"
    assert "503" in health(lab)["web/web-3"]
    assert "web-3" not in spread(get(lab) for _ in range(300))

    sickness.unlink()
    wait_state(lab, "up", "web/web-3")


def test_when_too_few_are_healthy_health_is_ignored(lab, tmp_path):
    """Of web's weights 100, 60 and 40 the last is left, less than 30 %."""
    text = lab.config_file("balancer").read_text()
    assert text.count("  - name: web\n") == 1
    config = tmp_path / "min_healthy.yaml"
    config.write_text(text.replace("  - name: web\n", "  - name: web\n    min_healthy: 30%\n"))
    lab.ask("apply", str(config))
    for name in ("web-1", "web-2"):
        (lab.folder(name) / "unhealthy").touch()
    wait_state(lab, "down", "web/web-1", "web/web-2")
    wait_until(lambda: lab.ask("get", "services")["services"][0]["health_ignored"], "health to be ignored")
    assert "20 % by weight, less than 30 %): health is ignored" in lab.guideway("status").stdout
    assert "down, ignored" in lab.guideway("get", "backends").stdout
    assert "3/3, 1 healthy" in lab.guideway("get", "services").stdout
    assert unfair(spread(get(lab) for _ in range(1000)), weights(lab)) == []

    (lab.folder("web-2") / "unhealthy").unlink()
    wait_state(lab, "up", "web/web-2")
    wait_until(lambda: not lab.ask("get", "services")["services"][0]["health_ignored"], "health to count")
    assert "web-1" not in spread(get(lab) for _ in range(300))


def test_all_backends_dead(lab):
    """Nobody answers; the drops say why; one that returns serves at once."""
    names = [f"web-{n}" for n in (1, 2, 3)]
    for name in names:
        lab.kill(f"{name}/nginx")
    wait_state(lab, "down", *(f"web/{name}" for name in names))
    assert get(lab, timeout_s=0.5).error
    assert int(lab.ask("status")["packets"]["drops"]["no_backend"]) > 0

    lab.start("web-2/nginx")
    wait_until(lambda: get(lab, timeout_s=0.5).backend == "web-2", "web-2 to answer")
