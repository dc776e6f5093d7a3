"""How new connections are spread: schedulers, affinities, slow start."""

import contextlib
import http.client
import socket

import pytest

from observe import states, wait_state, weights
from labkit import wait_until
from labkit.traffic import HTTP_PORT, VIP, ask, get, session, spread, unfair


@pytest.fixture
def web(lab):
    """web(KEY=VALUE, …) puts a configuration in force in which service `web` has these keys."""

    def apply(backends=None, **keys):
        config = lab.config()
        service = config["services"][0]
        service.pop("table_size", None)
        service.update(keys)
        for name, more in (backends or {}).items():
            [backend] = [b for b in service["backends"] if b["name"] == name]
            backend.update(more)
        done = lab.apply(config)
        assert done.returncode == 0, done.stderr

    return apply


def backend_of(lab, client):
    """The backend that answers a new connection from this address."""
    with lab.inside("client"):
        connection = http.client.HTTPConnection(VIP, timeout=5)
        connection.sock = socket.create_connection((VIP, HTTP_PORT), 5, (client, 0))
    with contextlib.closing(connection):
        return ask(connection, headers={"Connection": "close"}).backend


def test_round_robin_gives_everybody_his_turns(lab, web):
    web(scheduler="round_robin")
    assert weights(lab) == {"web-1": 100, "web-2": 60, "web-3": 40}
    assert spread(get(lab) for _ in range(100)) == {"web-1": 50, "web-2": 30, "web-3": 20}
    lab.ask("drain", "web/web-1")
    assert spread(get(lab) for _ in range(100)) == {"web-2": 60, "web-3": 40}


def test_random_goes_by_weight(lab, web):
    web(scheduler="random")
    assert unfair(spread(get(lab) for _ in range(1000)), weights(lab)) == []


def test_least_connections_fills_up_who_has_fewer(lab, web):
    lab.kill("balancer/guidewayd")  # whose connections are forgotten, so that counts begin at 0
    lab.start("balancer/guidewayd")
    web(scheduler="least_connections")
    lab.ask("drain", "web/web-1")
    with contextlib.ExitStack() as stack:
        others = [ask(stack.enter_context(session(lab))).backend for _ in range(60)]
        assert "web-1" not in others
        assert 30 <= others.count("web-2") <= 42, "36 by weight"
        lab.ask("undrain", "web/web-1")
        returned = [ask(stack.enter_context(session(lab))).backend for _ in range(140)]
        # By weight alone it would get half of them, 70.
        assert 88 <= returned.count("web-1") <= 104, "and so half of all 200"


def test_a_client_has_one_backend(lab, web):
    web(affinity="client")
    clients = [f"203.0.113.{n}" for n in range(130, 190, 2)]
    chosen = {client: {backend_of(lab, client) for _ in range(5)} for client in clients}
    assert {len(backends) for backends in chosen.values()} == {1}
    assert set().union(*chosen.values()) == {"web-1", "web-2", "web-3"}

    web(affinity="client_prefix", client_prefix={"ipv4": 27})
    for first in (128, 160, 192):
        assert len({backend_of(lab, f"203.0.113.{first + n}") for n in range(32)}) == 1


def test_a_region_has_its_backends_and_falls_back(lab, web):
    web(
        scheduler="geographic",
        regions=[
            {"name": "north", "prefixes": ["203.0.113.128/26"]},
            {"name": "south", "prefixes": ["203.0.113.192/26"]},
        ],
        default_region="north",
        backends={
            "web-1": {"region": "north"},
            "web-2": {"region": "north"},
            "web-3": {"region": "south"},
        },
    )
    north = [f"203.0.113.{n}" for n in range(130, 180)]
    south = [f"203.0.113.{n}" for n in range(200, 250)]
    assert {backend_of(lab, client) for client in north} == {"web-1", "web-2"}
    assert {backend_of(lab, client) for client in south} == {"web-3"}
    assert backend_of(lab, "203.0.113.10") in {"web-1", "web-2"}

    lab.kill("web-3/nginx")
    wait_state(lab, "down", "web/web-3")
    assert {backend_of(lab, client) for client in south} == {"web-1", "web-2"}
    lab.start("web-3/nginx")
    wait_state(lab, "up", "web/web-3")
    assert {backend_of(lab, client) for client in south} == {"web-3"}


def test_who_comes_back_starts_slowly(lab, web):
    """Its share grows in tenths; what others have open stays with them."""

    def web_1():
        [backend] = [
            b
            for b in lab.ask("get", "backends")["backends"]
            if (b["service"], b["name"]) == ("web", "web-1")
        ]
        return backend

    web(slow_start="6s")
    assert web_1()["tenths"] == 10, "a reload is no return"
    lab.kill("web-1/nginx")
    wait_state(lab, "down", "web/web-1")
    with contextlib.ExitStack() as stack:
        sessions = [stack.enter_context(session(lab)) for _ in range(40)]
        first = [ask(s).backend for s in sessions]
        lab.start("web-1/nginx")
        wait_state(lab, "up", "web/web-1")

        seen = {}

        def has_it_all():
            backend = web_1()
            seen[backend["tenths"]] = backend["share"]
            return backend["tenths"] == 10

        wait_until(has_it_all, "web-1 to have its whole share")
        assert list(seen) == sorted(seen)
        assert min(seen) < 10, "it did not come back with all"
        for tenths, share in seen.items():
            assert share == pytest.approx(0.05 * tenths, abs=0.02)
        assert [ask(s).backend for s in sessions] == first
    assert unfair(spread(get(lab) for _ in range(1000)), weights(lab)) == []
    assert states(lab)["web/web-1"] == "up"
