"""`guideway top` and `--watch` in front of a terminal, and in a pipe, with a daemon that comes and goes."""

import itertools
import json
import os
import re
import signal
import subprocess

import pytest
import yaml

from alone import BUILD, alone
from labkit import wait_until
from on_tty import fits, tty

GUIDEWAY = str(BUILD / "tools/guideway")


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with alone(tmp_path_factory.mktemp("top"), nic="af_packet") as daemon:
        yield daemon


@pytest.fixture
def daemon(running):
    if running.process is None or running.process.poll() is not None:
        running.start()
    return running


def call(daemon, *words):
    return [GUIDEWAY, *words, "--socket", str(daemon.socket)]


def top(daemon, *words):
    return call(daemon, "top", "--interval", "100ms", *words)


def test_it_fits_the_terminal_and_follows_it(daemon):
    with tty(top(daemon), rows=24, columns=80) as there:
        frame = there.wait_frame(lambda text: "packets/s  0 received" in text, "rates")
        assert fits(frame, 24, 80)
        for part in ("serving", "CORE", "INTERFACE", "SERVICE", "BACKEND", "web-1", "q quits"):
            assert part in frame
        assert "\x1b[3" not in frame, "NO_COLOR"
        seen = len(there.frames())
        there.resize(7, 30)
        there.wait_frame(lambda text: fits(text, 7, 30) and "q quits" in text, "a small screen", seen)
        there.resize(50, 120)
        there.wait_frame(lambda text: text.count("\n") > 10, "a large screen")
        there.type("q")
        assert there.wait_end() == 0


def test_a_new_size_does_not_wait_for_the_next_look(daemon):
    with tty(call(daemon, "top", "--interval", "1h"), rows=24, columns=80) as there:
        there.wait_frame(lambda text: "counted from now on" in text, "the first screen", 0)
        seen = len(there.frames())
        there.resize(7, 30)
        there.wait_frame(lambda text: fits(text, 7, 30) and "q quits" in text, "a small screen", seen)


def test_colour_on_a_terminal(daemon):
    with tty(top(daemon), NO_COLOR="") as there:
        there.wait_frame(lambda text: "\x1b[32mserving\x1b[0m" in text, "colour")


def test_keys(daemon):
    with tty(top(daemon)) as there:
        there.wait_frame(lambda text: "now by packets" in text, "the order")
        there.type("o")
        there.wait_frame(lambda text: "now by new connections" in text, "another order")
        there.type("xyz")
        there.wait_frame(lambda text: "now by new connections" in text, "the same order")
        there.type("Q")
        assert there.wait_end() == 0


@pytest.mark.parametrize("words", (("top",), ("status", "--watch"), ("get", "backends", "--watch")))
def test_ctrl_c_leaves_cleanly(daemon, words):
    with tty(call(daemon, *words)) as there:
        there.wait_frame(lambda text: "web-1" in text or "net_af_packet" in text, "a screen")
        there.type("\x03")
        assert there.wait_end() == 0


@pytest.mark.parametrize("number", (signal.SIGTERM, signal.SIGHUP))
def test_a_signal_leaves_cleanly(daemon, number):
    with tty(top(daemon)) as there:
        there.wait_frame(lambda text: "web-1" in text, "a screen")
        there.process.send_signal(number)
        assert there.wait_end() == -number


def test_stopped_and_continued(daemon):
    with tty(top(daemon)) as there:
        there.wait_frame(lambda text: "web-1" in text, "a screen")
        there.type("\x1a")
        wait_until(
            lambda: os.waitid(os.P_PID, there.process.pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT),
            "it to stop",
        )
        there.assert_left()
        there.process.send_signal(signal.SIGCONT)
        there.wait_frame(lambda text: "web-1" in text, "a screen")
        there.type("q")
        assert there.wait_end() == 0


def syn(n):
    """A TCP SYN to the VIP of alone's configuration, from client number `n`."""
    from scapy.layers.inet import IP, TCP
    from scapy.layers.l2 import Ether

    source = f"203.0.113.{n % 250 + 1}"
    return bytes(
        Ether(src="02:00:00:00:00:fe", dst="02:00:00:00:00:01")
        / IP(src=source, dst="198.51.100.10")
        / TCP(sport=1024 + n, dport=80, flags="S")
    )


def test_rates_of_real_traffic(daemon):
    frames = itertools.cycle([syn(n) for n in range(1000)])
    with tty(top(daemon), rows=40, columns=120) as there:

        def busy(text):
            for _ in range(20):
                daemon.send(next(frames))
            service = re.search(r"^web +1/1 +([\d.]+)", text, re.MULTILINE)
            return service is not None and float(service[1]) > 0

        # Each look at the screen sends something.
        wait_until(lambda: any(busy(frame) for frame in there.frames()[-1:]), "traffic on the screen")
        there.type("q")
        assert there.wait_end() == 0


def test_the_daemon_dies_and_comes_back(daemon):
    with tty(top(daemon), columns=200) as there:
        there.wait_frame(lambda text: text.startswith("guidewayd "), "a screen")
        pid = daemon.pid
        daemon.process.kill()
        daemon.process.wait()
        gone = there.wait_frame(lambda text: text.startswith("not refreshed"), "the trouble")
        assert re.match(r"not refreshed since \d\d:\d\d:\d\d UTC: guidewayd does not run any more: nobody serves ", gone)
        assert "web-1" in gone, "what was known before stays"
        daemon.start()
        assert daemon.pid != pid
        there.wait_frame(lambda text: text.startswith("guidewayd "), "it to go on")
        there.type("q")
        assert there.wait_end() == 0


@pytest.mark.parametrize("words", (("top",), ("get", "backends", "--watch")))
def test_a_try_that_fails_counts(daemon, words):
    argv = call(daemon, *words, "--interval", "100ms", "--count", "20")
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline()
            daemon.process.kill()
            daemon.process.wait()
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 1
    assert 1 <= err.count("guidewayd does not run any more") < 20
    daemon.start()
    with tty(call(daemon, *words, "--interval", "100ms", "--count", "20")) as there:
        there.wait_frame(lambda text: "web-1" in text, "a screen")
        daemon.process.kill()
        daemon.process.wait()
        assert there.wait_end() == 1
        assert "does not run any more" in there.printed[there.printed.rindex("\x1b[?1049l") :], "why, where it stays"


def test_a_refusal_while_watching(daemon):
    """The daemon answers, but what is watched is not there any more."""
    words = ("get", "flows", "--service", "web", "--watch", "--interval", "100ms")
    before = daemon.config.read_text()
    with tty(call(daemon, *words), columns=200) as there:
        there.wait_frame(lambda text: "SERVICE" in text, "the table")
        daemon.config.write_text(before.replace("- name: web\n", "- name: other\n"))
        daemon.guideway("apply", str(daemon.config))
        frame = there.wait_frame(lambda text: text.startswith("not refreshed"), "the refusal")
        assert re.match(r'not refreshed since \S+ UTC: guideway: there is no service "web"; there are other', frame)
        assert "cannot reach" not in frame
        daemon.config.write_text(before)
        daemon.guideway("apply", str(daemon.config))
        there.wait_frame(lambda text: text.startswith("guideway get flows"), "it to go on")
        there.type("q")
        assert there.wait_end() == 0


def test_the_newest_events_stay_on_a_small_screen(daemon):
    for _ in range(6):
        daemon.guideway("drain", "web/web-1")
        daemon.guideway("undrain", "web/web-1")
    events = daemon.ask("get", "events")["events"]
    with tty(call(daemon, "get", "events", "--watch"), rows=6, columns=200) as there:
        lines = there.wait_frame(lambda text: "drained" in text, "events", 0).split("\n")
        assert lines[1] == f"… {len(events) - 4} earlier"
        assert [line.split("  ", 1)[1] for line in lines[2:]] == [event["text"] for event in events[-4:]]
        there.resize(4, 200)
        frame = there.wait_frame(lambda text: fits(text, 4, 200), "a smaller screen")
        assert frame.endswith(events[-1]["text"])
        there.resize(60, 200)
        there.wait_frame(lambda text: "earlier" not in text and events[0]["text"] in text, "all of them")


def test_without_a_daemon_it_ends(tmp_path):
    with tty([GUIDEWAY, "top", "--socket", str(tmp_path / "none")]) as there:
        assert there.process.wait(timeout=30) == 1
        printed = there.read()
        assert "there is no control socket" in printed
        assert "\x1b[?1049h" not in printed, "an error is for the screen that stays"


def test_blocks_in_a_pipe(daemon):
    out = daemon.guideway("top", "--interval", "100ms", "--count", "2")
    assert len(re.findall(r"^packets/s  \S+ received", out, re.MULTILINE)) == 2  # the kernel may say something
    assert "\x1b" not in out and "q quits" not in out
    lines = daemon.guideway("top", "--interval", "100ms", "--count", "3", "-o", "json").splitlines()
    looks = [json.loads(line) for line in lines]
    assert len(looks) == 3
    for look in looks:
        assert look["interval_seconds"] > 0
        assert look["backends"][0]["name"] == "web-1"
        assert 0 <= look["workers"][0]["busy"] <= 1
        assert look["packets_per_second"].keys() >= {"received", "dropped"}
    out = daemon.guideway("top", "--interval", "100ms", "--count", "2", "-o", "yaml")
    assert len(list(yaml.safe_load_all(out))) == 2


def test_watch(daemon):
    words = ("get", "backends", "--watch", "--interval", "100ms")
    with tty(call(daemon, *words), rows=10, columns=60) as there:
        frame = there.wait_frame(lambda text: "web-1 " in text, "the table")
        assert frame.startswith("guideway get backends  ")
        assert fits(frame, 10, 60)
        daemon.guideway("drain", "web/web-1")
        there.wait_frame(lambda text: "drain" in text, "the change")
        daemon.guideway("undrain", "web/web-1")
        there.wait_frame(lambda text: "drain" not in text, "the change back")
        there.type("q")
        assert there.wait_end() == 0
    out = daemon.guideway(*words, "--count", "3")
    assert out.count("SERVICE  BACKEND") == 3
    out = daemon.guideway("status", "--watch", "--interval", "100ms", "--count", "2", "-o", "json")
    decoder = json.JSONDecoder()
    _, end = decoder.raw_decode(out)
    assert decoder.raw_decode(out[end:].strip())[0]["state"] == "serving"
    with tty(call(daemon, "status", "--watch", "--count", "2", "--interval", "100ms")) as there:
        assert there.wait_end() == 0


def test_a_dumb_terminal_gets_blocks(daemon):
    with tty(top(daemon, "--count", "1"), TERM="dumb") as there:
        assert there.process.wait(timeout=30) == 0
        assert "packets/s" in there.read() and "\x1b" not in there.read()


def test_wrong_calls(daemon):
    for words, says in (
        (("top", "--interval", "soon"), "--interval soon is not a time from 100ms to 24h, such as 500ms or 2s; see `guideway top "),
        (("top", "--interval", "1ms"), "--interval 1ms"),
        (("top", "--count", "0"), "--count 0 is not a number from 1 up"),
        (("status", "--interval", "1s"), "--interval has no effect without --watch"),
        (("drain", "a/b", "--watch"), "--watch has no effect with drain"),
        (("get", "nothing", "--watch"), 'there is no "nothing" to get'),
    ):
        done = subprocess.run(call(daemon, *words), capture_output=True, text=True, check=False)
        assert done.returncode == 2, words
        assert says in done.stderr
