"""NAR-Bench on a file whose numbers are planted, and the shipped one against its card."""

import hashlib
import json
import re
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau

from papers_lib import checkpoint
from papers_lib.errors import PapersError
from papers_lib.exhibits import ledger
from papers_lib.nar import bench
from papers_lib.nar.counting import count
from papers_lib.nar.enumeration import index_of, vector_at
from papers_lib.nar.study import bench_tables, make_bench
from papers_lib.runs.store import Result
from papers_lib.study import Results, Statement

SETTINGS = {
    "decisions": 8, "operators": 4, "rule": "A", "image_size": 12, "width": 8, "score_images": 800,
}  # fmt: skip
SAMPLE = [[0] * 8, *([int(i == place) for i in range(8)] for place in range(8)), [1, 2, 3, 1, 2, 3, 1, 2]]


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    """Of three draws; shared scores are random but for the sample's, which the judge of `pretrain` ranks as
    training does, and in the last draw the other way round.
    """
    random = np.random.default_rng(0)
    truth = np.linspace(0.3, 0.34, 10)
    fractions = {
        "trained": (np.stack([truth, truth + 0.02 * np.sin(truth * 1000)], 1), 10000),
        "fitted": (np.full((10, 2), 0.99), 600),
    }
    for name in bench.WEIGHTS:
        scores = random.integers(100, 300, (3, 2, 4**8)) / 800
        if name == "pretrain":
            order = np.stack([truth, truth + 0.02 * np.sin(truth * 1000)], 1).mean(1).argsort().argsort()
            for draw, sign in enumerate((1, 1, -1)):
                scores[draw, 1, [index_of(vector) for vector in SAMPLE]] = (200 + sign * order) / 800
        fractions[f"scores_{name}"] = (scores, 800)
        for kind in bench.STATISTICS:
            fractions[f"{kind}_{name}"] = (random.integers(100, 300, 10) / 800, 800)
    pick = {"vector": SAMPLE[1], "samples": 10, "equal_cost": 500}
    picks = {name: [pick] * 3 for name in bench.WEIGHTS}
    about = {"settings": SETTINGS, "test_images": 10000, "training_images": 600, "picks": picks}
    path = tmp_path_factory.mktemp("bench") / "bench.npz"
    with path.open("wb") as stream:
        arrays = {name: bench.right(*values) for name, values in fractions.items()}
        np.savez_compressed(stream, about=np.array(json.dumps(about)), sample=np.uint8(SAMPLE), **arrays)
    return path


@pytest.fixture(scope="module")
def known(file) -> bench.NarBench:
    return bench.load(file)


def test_a_query_is_what_the_file_holds(known):
    entry = known.query((1, 0, 0, 0, 0, 0, 0, 0))
    exact = count((1, 0, 0, 0, 0, 0, 0, 0), "resnet18_cifar", "A", 12, 10, 8)
    assert (entry.parameters, entry.multiply_accumulates) == exact
    assert entry.trained == pytest.approx(known.trained[1]) and len(entry.trained) == 2
    place = 4**7
    for name, draws in known.shared.items():
        for i, scored in enumerate(draws):
            assert (entry.choice[name][i], entry.judge[name][i]) == (
                scored.choice[place],
                scored.judge[place],
            )
            above, equal = (sum(scored.judge > scored.judge[place]), sum(scored.judge == scored.judge[place]))
            assert entry.rank[name][i] == above + (equal + 1) / 2
    assert known.query(vector_at(65535, 8)).trained == ()
    for vector in ((0,) * 7, (4,) + (0,) * 7):
        with pytest.raises(PapersError):
            known.query(vector)


def test_taus_are_those_of_the_numbers(known):
    taus = known.taus()
    assert taus["judge, pretrain"].tau == pytest.approx(1 / 3)  # two draws at 1, one at -1
    truth = known.trained.mean(1)
    for name, draws in known.rankings().items():
        each = [kendalltau(truth, values).statistic for values in draws]
        assert taus[name].tau == pytest.approx(np.mean(each)) and taus[name].draws == len(each), name
    assert taus["repeats"].tau == pytest.approx(kendalltau(*known.trained.T).statistic)
    assert taus["perfect"].tau == pytest.approx(bench.ceiling(taus["repeats"].tau))
    few = known.taus(few=True)["cost"].tau  # the eight single replacements
    assert few == pytest.approx(kendalltau(truth[1:9], known.counts[known.places[1:9], 1]).statistic)
    gap = known.ahead("judge, pretrain", "running, plain")  # of the first draw, which alone has the latter
    assert gap.tau == pytest.approx(1 - taus["running, plain"].tau) and gap.draws == 1
    gap = known.ahead("judge, pretrain", "cost")
    assert gap.tau == pytest.approx(1 / 3 - taus["cost"].tau) and gap.draws == 3


def test_an_error_is_over_vectors_and_draws(known):
    one, three = known.ahead("running, plain", "cost"), known.taus()["judge, pretrain"]
    assert one.freedom == np.inf and one.interval()[1] - one.tau == pytest.approx(1.96 * one.error, rel=1e-3)
    between = np.var([1, 1, -1], ddof=1) / 3
    assert three.error**2 >= between  # and little of it is of vectors, whose order is that of the truth
    assert 2 <= three.freedom < 3 and three.interval()[1] - three.tau > 3 * three.error
    assert three.interval(0.99)[0] < three.interval()[0]


def test_the_ceiling_is_what_the_truth_reaches_with_noisy_means_of_itself():
    random = np.random.default_rng(2)
    truth = random.normal(size=4000)
    trained = truth[:, None] + 2 * random.normal(size=(4000, 6))
    halves = kendalltau(trained[:, ::2].mean(1), trained[:, 1::2].mean(1)).statistic
    reached = kendalltau(truth, trained.mean(1)).statistic
    assert bench.ceiling(halves) == pytest.approx(reached, abs=0.02)
    assert bench.ceiling(np.array([-0.1, 1.0])) == pytest.approx([0, 1])


def test_trainings_of_the_ledger_join_the_scores_of_a_file(tmp_path, capsys):
    shipped = bench.load()
    path = tmp_path / "bench.npz"
    path.write_bytes(bench.FILE.read_bytes())
    make_bench.make(Namespace(file=path, keep_scores=True))
    again, rows = bench.load(path), make_bench.trained(ledger.read("nar"))
    assert f"{len(rows)} trainings of each of 150 vectors" in capsys.readouterr().out
    assert again.trained.tolist() == shipped.trained.tolist()  # what is shipped is what the ledger has
    assert again.about["runs"].keys() == shipped.about["runs"].keys()
    for name, draws in shipped.shared.items():
        for one, other in zip(again.shared[name], draws, strict=True):
            assert (one.judge == other.judge).all() and (one.choice == other.choice).all()
        assert again.picks[name] == shipped.picks[name]
    with pytest.raises(PapersError, match="not two trainings of the sample"):
        make_bench.trained(rows[:1])


def test_draws_are_the_seeds_that_have_all_their_runs(tmp_path):
    """Seeds 0 and 3 have; seed 1 lacks an enumeration. Of reruns the newest counts."""
    finished = []
    for seed, names in ((0, 4), (1, 3), (3, 4), (0, 4)):
        runs = {spec.label: spec for spec in make_bench.planned(seed)}
        for name in [name for pair in make_bench.ARMS.values() for name in pair][:names]:
            folder = tmp_path / f"{len(finished)}"
            metrics = {"choices": {"pick": SAMPLE[seed]}, "samples": [0] * 10, "draws": 500 + len(finished)}
            metrics["sample"] = [{"running": 0.25, "recalibrated": 0.25 + seed / 8}]
            scores = torch.full((4**8,), (len(finished) + 1) / 800, dtype=torch.float64)
            checkpoint.save(folder / "scores.pt", {"choice": scores, "judge": scores + 0.5})
            spec = runs[name].model_copy(update={"folder": str(folder)})
            told = {"finished": f"{len(finished):02}", "commit": "c"}
            finished.append(Result(spec=spec, metrics=metrics, provenance=told))
    draws = make_bench.stored(Namespace(finished=lambda: reversed(finished)))
    assert [runs["search"].spec.seed for runs in draws] == [0, 3]
    said, arrays = make_bench.scored(draws)
    assert arrays["scores_pretrain"][:, 0, 0].tolist() == [13, 9]  # of the enumeration of each, as made above
    assert arrays["scores_plain"][:, 1, 0].tolist() == [415, 411]
    assert arrays["recalibrated_plain"].tolist() == [200]  # of the first draw alone
    assert [pick["vector"] for pick in said["picks"]["plain"]] == [SAMPLE[0], SAMPLE[3]]
    assert said["runs"].keys() == {f"{name}, seed {seed}" for name in draws[0] for seed in (0, 3)}
    with pytest.raises(PapersError, match="not run at profile frozen: enumerate_plain; sweep them first"):
        make_bench.stored(Namespace(finished=lambda: finished[:3]))


def test_a_resample_is_tau_of_items_taken_several_times():
    random = np.random.default_rng(1)
    a, b = random.integers(0, 6, (2, 12)).astype(float)  # with ties
    found, *many = bench.correlate(a, b)
    assert found == pytest.approx(kendalltau(a, b).statistic) and len(many) == bench.RESAMPLES
    copies = np.random.default_rng(0).multinomial(12, np.full(12, 1 / 12), bench.RESAMPLES)
    for number in range(5):
        again = kendalltau(np.repeat(a, copies[number]), np.repeat(b, copies[number])).statistic
        assert many[number] == pytest.approx(again)


@pytest.mark.parametrize(
    "damage", [lambda c: c[:2000], lambda c: b"", lambda c: c.replace(b"about", b"abaft")]
)
def test_a_damaged_file_is_one_line(file, tmp_path, damage: Callable[[bytes], bytes]):
    path = tmp_path / "bench.npz"
    path.write_bytes(damage(file.read_bytes()))
    with pytest.raises(PapersError, match=r"bench\.npz is no NAR-Bench \(\w+\); restore it"):
        bench.load(path)
    with pytest.raises(PapersError, match="cannot read"):
        bench.load(tmp_path / "none.npz")


def test_claims_are_settled_by_the_benchmark(known, monkeypatch):
    monkeypatch.setattr(bench_tables, "known", lambda: known)
    line = Statement("C7a", "", "", "bench_tau", "judge, pretrain", "0", "", "", "", "", "")
    results = Results([])
    assert bench_tables.bench_tau(results, line._replace(a="both, pretrain", b="-9")).verdict == "holds"
    assert bench_tables.bench_tau(results, line._replace(b="9")).verdict == "fails"
    draws = bench_tables.bench_tau(results, line)  # of three draws, one says the contrary
    assert draws.verdict == "undecided" and "over vectors and 3 draws" in draws.text
    ahead = bench_tables.bench_tau(results, line._replace(b="running, pretrain"))
    behind = bench_tables.bench_tau(results, line._replace(a="running, plain", b="perfect"))
    assert "ahead by -" in behind.text and behind.verdict == "fails"
    assert ahead.kind == "computed" and ahead.verdict == "holds"
    table = bench_tables.rankings()
    assert len(table.rows) == 14
    assert "10 vectors, each trained 2 times" in str(table)


@pytest.mark.parametrize(("tau", "verdict"), [(0.10, "undecided"), (0.12, "holds"), (-0.12, "fails")])
def test_claims_of_the_benchmark_are_judged_together(monkeypatch, tau, verdict):
    class Known:
        def rankings(self):
            return {"cost": None}

        def ahead(self, *_):  # z is 2.45 or 2.94, where eight claims want 2.73
            return bench.Correlation(tau, 0.0408)

    monkeypatch.setattr(bench_tables, "known", Known)
    line = Statement("C7g", "", "", "bench_tau", "judge, pretrain", "cost", "", "", "", "", "")
    found = bench_tables.bench_tau(Results([]), line)
    assert found.verdict == verdict and "for all 8 such claims" in found.text


def test_the_shipped_file_is_that_of_its_card():
    content = bench.FILE.read_bytes()
    card = bench.FILE.with_name("CARD.md").read_text(encoding="utf-8")
    assert re.findall(r"\b[0-9a-f]{64}\b", card) == [hashlib.sha256(content).hexdigest()]
    assert len(content) <= 4 * 2**20
    shipped = bench.load()
    assert len(shipped.sample) >= 150 and shipped.trained.shape[1] >= 2
    seeds = {int(name[-1]) for name in shipped.about["runs"] if name.startswith("search, seed")}
    assert seeds == set(range(6)) and "seed, 0 to 5," in card and "six draws of each" in card
    assert {len(draws) for draws in shipped.shared.values()} == {6}
    assert len({tuple(vector) for vector in shipped.sample.tolist()}) == len(shipped.sample)
