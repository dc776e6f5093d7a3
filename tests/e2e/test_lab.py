"""The lab's own command and what it says when it is called wrongly."""

import json
import pathlib
import subprocess

import pytest

from labkit import Lab, LabError, topology
from labkit import lab as labkit_lab

TOOLS = pathlib.Path(__file__).resolve().parents[2] / "tools"
FIRST_LIGHT = TOOLS / "labs/first-light.toml"

pytestmark = pytest.mark.usefixtures("lab")


def lab_command(*words):
    argv = [str(TOOLS / "lab"), *words]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def assert_one_sentence(done, named):
    assert done.returncode == 1
    assert named in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_there_is_one_lab_at_a_time():
    assert_one_sentence(lab_command("up"), "A lab is up already")


def test_what_a_reboot_left_is_no_lab(lab, tmp_path, monkeypatch):
    """A copy of what is known of the lab, without namespaces, or without processes."""
    state = json.loads(labkit_lab._STATE.read_text())
    assert Lab.is_up()
    monkeypatch.setattr(labkit_lab, "DIRECTORY", tmp_path / "left")
    monkeypatch.setattr(labkit_lab, "_STATE", tmp_path / "left/lab.json")
    (tmp_path / "left").mkdir()
    assert not Lab.is_up()

    def leave(**changed):
        labkit_lab._STATE.write_text(json.dumps({**state, **changed}))

    leave()
    assert Lab.is_up(), "who builds it is there"
    nobody = {"pid": 2**22 + 1, "started": "1"}
    leave(builder=nobody)
    assert Lab.is_up(), "its programs run"
    leave(builder=nobody, processes={"web-1/nginx": nobody})
    assert not Lab.is_up()
    with pytest.raises(LabError, match="None of the programs .* runs any more.*`tools/lab up`"):
        Lab.current()
    leave(builder=nobody)
    monkeypatch.setattr(labkit_lab.namespace, "names", set)
    assert not Lab.is_up()
    with pytest.raises(LabError, match="without its namespaces: after a reboot.*`tools/lab down`"):
        Lab.current()
    older = {key: value for key, value in state.items() if key != "builder"}
    labkit_lab._STATE.write_text(json.dumps({**older, "processes": {}}))
    assert Lab.current(left_too=True).nodes, "one of before it was said who builds it"
    leave(options={"of": "another version"})
    with pytest.raises(LabError, match="another version of tools/lab.*`rm -r "):
        Lab.current()
    labkit_lab._STATE.write_text("{")
    with pytest.raises(LabError, match="broken; `rm -r "):
        Lab.current()


def test_a_shell_is_where_it_says():
    done = lab_command("shell", "web-2", "uname", "-n")
    assert (done.returncode, done.stdout) == (0, "web-2\n")


def test_an_unknown_node():
    assert_one_sentence(lab_command("shell", "web-99", "true"), "web-99")


def test_status_lists_programs():
    done = lab_command("status")
    assert done.returncode == 0
    assert "balancer/guidewayd" in done.stdout and "not running" not in done.stdout


def test_the_command_line_talks_to_the_lab():
    done = lab_command("guideway", "get", "backends")
    assert done.returncode == 0
    assert "web-3" in done.stdout


@pytest.mark.parametrize(
    "good, bad, named",
    [
        ("[[node]]", "[[node]", "line"),
        ("loopback =", "lopback =", "lopback"),
        ('folder = "first-light"', 'fodler = "first-light"', "fodler"),
        ('name = "client"', "", "name"),
    ],
)
def test_a_topology_that_is_none(tmp_path, good, bad, named):
    path = tmp_path / "bad.toml"
    path.write_text(FIRST_LIGHT.read_text().replace(good, bad, 1))
    with pytest.raises(LabError, match=named) as refused:
        topology.load(path, None, TOOLS, tmp_path)
    assert str(path) in str(refused.value)


def test_counted_nodes_and_their_links(tmp_path):
    lab = topology.load(FIRST_LIGHT, 5, TOOLS, tmp_path)
    backends = [node.name for node in lab.nodes if node.name.startswith("web")]
    assert backends == ["web-1", "web-2", "web-3", "web-4", "web-5"]
    ends = {end.node: end for link in lab.links for end in link.ends}
    assert ends["web-5"].addresses == ["10.0.0.15/24"]
