"""The Ray executor, on two nodes of a cluster on this machine."""

import os
import signal
from contextlib import suppress

import psutil
import pytest
from sweeps import noted, summary, sweep, wait_for

from papers_lib.errors import PapersError
from papers_lib.runs import cluster, executors

Cluster = pytest.importorskip(
    "ray.cluster_utils", reason="ray is not installed: pip install -e '.[cluster]'"
).Cluster
pytestmark = pytest.mark.timeout(300)
HEAD = {"num_cpus": 1, "include_dashboard": False}


def started(make):
    """What `make` starts; Ray gives up after 30 seconds, which a busy machine may need."""
    for _ in range(2):
        with suppress(Exception):
            return make()
    return make()


@pytest.fixture(scope="module")
def two_nodes():
    """A head, to which `nodes` adds a second node, of one CPU each."""
    made = started(lambda: Cluster(initialize_head=True, head_node_args=HEAD))
    yield made
    made.shutdown()


@pytest.fixture
def nodes(two_nodes, monkeypatch):
    """The cluster and its second node, found by every sweep of the test; a killed one starts again."""
    if not two_nodes.worker_nodes:
        started(lambda: two_nodes.add_node(num_cpus=1))
    monkeypatch.setenv("RAY_ADDRESS", two_nodes.address)
    return two_nodes, *two_nodes.worker_nodes


def ray_sweep(specs, store, **options):
    return executors.execute("ray", specs, store, show=False, **options)


def test_a_part_that_ray_does_not_share_out_is_refused_before_it_starts(store, toy):
    for wrong, said in (
        ({"num_cpus": 0}, "above 0"),
        ({"num_cpus": 1e-5}, "--num-cpus 1e-05"),
        ({"num_gpus": 1e-5}, "gpus"),
    ):
        with pytest.raises(PapersError, match=said):
            ray_sweep([toy("square", x=3)], store, **wrong)


def test_two_drivers_on_one_store_compute_each_run_once(store, toy, nodes):
    ended = [summary(process) for process in [sweep(store, "count", 6, executor="ray") for _ in range(2)]]
    assert sum(done for done, _, _ in ended) == 6
    assert all(done + cached == 6 for done, cached, _ in ended)
    assert [noted(store, toy("count", x=x), "calls.txt") for x in range(6)] == [1] * 6


def test_a_node_that_does_not_see_the_store(store, toy, nodes, monkeypatch, tmp_path):
    """What runs need goes there, and what they leave comes back."""
    monkeypatch.setattr(cluster, "_mark", lambda folder: (1, 2, 3))  # here alone: nodes have the real one
    base = [toy("square", x=1), toy("leaves_files", x=2)]
    top = toy("total", needs=base)
    bad = toy("fail", mended=str(tmp_path / "mended"))
    ended = ray_sweep([top, bad], store)
    assert (ended.done, [reason for _, reason in ended.failed]) == (3, ["ValueError: the toy fails"])
    assert store.result(top).metrics == {"value": 2}
    assert "functions.py" in store.failure(bad).traceback
    left = {path.name for path in store.folder(base[1]).iterdir()}
    assert {"log.txt", "result.json", "spec.json", "weights.pt"} == {n for n in left if n[0] != "."}
    assert ray_sweep([top], store) == (0, 1, [])


def test_two_drivers_whose_nodes_do_not_see_the_store(store, toy):
    """The worker's lock lies elsewhere then: what another driver has is left to it."""
    spec = toy("square", x=1)
    with cluster.locked(store.prepare(spec) / ".sweep.lock"):
        sweeping = cluster.RaySweep(store, 1, False, None, cluster.display(False))
        assert sweeping.start(spec, store.folder(spec)) is None


def test_a_killed_process_is_tried_again_and_a_crash_is_not(store, toy, nodes):
    specs = [toy("die", x=2), toy("leave", x=1)]
    ended = ray_sweep(specs, store)
    assert ended.done == 1 and store.result(specs[0]).metrics["value"] == 2
    [(_, reason)] = ended.failed
    assert reason == "RuntimeError: its process ended with code 3: no message"


def test_what_no_node_can_serve_is_one_line(store, toy, nodes):
    spec = toy("square", x=1)
    with pytest.raises(PapersError, match="no node of the cluster has 4 CPUs and 0 GPUs"):
        ray_sweep([spec], store, num_cpus=4)
    with pytest.raises(PapersError, match="the cluster has no GPU"):
        ray_sweep([spec.model_copy(update={"device": "cuda"})], store)
    assert not store.root.exists()


def test_ctrl_c_takes_the_runs_from_the_cluster(store, toy, nodes):
    process = sweep(store, "steps", 2, "small", "ray", steps=2000)
    specs = [toy("steps", "small", x=x, steps=2000) for x in range(2)]
    wait_for(lambda: all((store.folder(spec) / "state.json").exists() for spec in specs), 120)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "stopped: 0/2 done" in errors and "the same command resumes" in errors
    wait_for(lambda: all(store.state(spec) == "partial" for spec in specs))


def test_a_driver_and_then_a_node_killed_in_the_middle_lose_nothing(store, toy, nodes):
    made, second = nodes
    specs = [toy("steps", "small", x=x, steps=100, sleep=0.05) for x in range(3)]

    def under_way():
        """A sweep that has added twenty steps to two runs, one on each node."""
        before = [noted(store, spec) for spec in specs]
        process = sweep(store, "steps", 3, "small", "ray", steps=100, sleep=0.05)
        wait_for(lambda: sum(noted(store, s) >= n + 20 for s, n in zip(specs, before, strict=True)) >= 2, 120)
        return process

    driver = under_way()
    os.killpg(driver.pid, signal.SIGKILL)
    driver.communicate()
    driver = under_way()
    made.remove_node(second, allow_graceful=False)
    assert summary(driver) == (3, 0, 0)
    for spec in specs:
        assert store.result(spec).metrics == {"sum": sum(i**2 for i in range(100))}
        assert noted(store, spec) <= 102, "a lost run went on from its last step, twice"


def test_a_cluster_that_is_not_there_is_one_line(store, toy, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(PapersError, match=r"no Ray cluster at 127\.0\.0\.1:1 ") as caught:
        ray_sweep([toy("square", x=1)], store)
    assert "\n" not in str(caught.value)


def test_a_cluster_of_its_own_computes_and_leaves_nothing_behind_when_it_is_killed(store, toy, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    process = sweep(store, "steps", 4, "small", "ray", steps=200)
    specs = [toy("steps", "small", x=x, steps=200) for x in range(4)]
    wait_for(lambda: {"done", "running"} <= {store.state(spec) for spec in specs}, 120)
    children = psutil.Process(process.pid).children(recursive=True)
    agents = {"ray::RuntimeEnvAgent", "ray::DashboardAgent"}  # they look for their node once per minute
    others = [child for child in children if child.name() not in agents]
    assert any("raylet" in child.name() for child in others)
    process.kill()
    process.communicate()
    _, alive = psutil.wait_procs(others, timeout=20)
    assert {child.name() for child in alive} <= agents
