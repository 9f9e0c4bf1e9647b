"""The floor on which every study stands: its tables, its readings, and where it looks for data."""

from __future__ import annotations

from typing import Any

import pytest
from PIL import Image
from planted import planted

from papers_lib.errors import PapersError
from papers_lib.exhibits.curves import learning
from papers_lib.exhibits.intervals import t_interval
from papers_lib.exhibits.ledger import Row
from papers_lib.exhibits.table import NOT_RUN
from papers_lib.papers import get, known
from papers_lib.runs.spec import Data, RunSpec
from papers_lib.settings import validate
from papers_lib.study.data import Size, read_arms, read_sizes, read_statements
from papers_lib.study.results import Results, difference, gap, mean, not_run


def run(label: str, seed: int, metrics: dict[str, Any] | None) -> tuple[RunSpec, Row | None]:
    spec = RunSpec(
        paper="toy",
        function="toy.study:run",
        profile="small",
        settings={"seed": seed},
        data=Data(name="drawn"),
        label=label,
    )
    return spec, None if metrics is None else planted(spec, metrics, seconds=90)


RESULTS = Results(
    [
        run("a", 0, {"acc": 0.5, "start": {"knn": 0.1}, "history": [{"knn": 0.2}, {"loss": 1.0}]}),
        run("a", 1, {"acc": 0.7, "start": {}, "history": [{"knn": 0.3, "loss": 2.0}]}),
        run("a", 2, {"acc": 0.6, "history": []}),
        run("net/b", 1, {"acc": 0.4, "history": []}),
        run("net/b", 3, None),
    ]
)


def test_a_metric_is_read_by_its_path_and_left_out_where_an_epoch_did_not_log_it():
    assert RESULTS.values("a", "acc") == {0: 0.5, 1: 0.7, 2: 0.6}
    assert RESULTS.values("a", "acc %") == {0: 50, 1: 70, 2: 60}
    assert RESULTS.values("a", "history.-1.loss") == {0: 1, 1: 2}
    assert RESULTS.values("a", "history.0.knn %") == {0: 20, 1: 30}
    assert RESULTS.values("a", "history.0.loss") == {1: 2.0}
    assert RESULTS.values("nothing", "acc") == {}
    with pytest.raises(KeyError, match="nonsense"):  # a row that is bent is not silently left out
        RESULTS.values("a", "nonsense")
    assert RESULTS.mean("a", "acc") == pytest.approx(0.6)
    assert RESULTS.mean("nothing", "acc") is mean({}) is None
    assert RESULTS.minutes("a") == dict.fromkeys((0, 1, 2), 1.5)
    assert RESULTS.data_names("a") == "drawn"
    assert len(RESULTS.all_rows) == 4
    assert (Results([run("b", 3, None)]).profile, Results([]).profile) == ("small", "")


def test_histories_begin_before_training():
    assert list(RESULTS.by_epoch(["a", "net/b"], ["knn"], 100)) == [
        {"arm": "a", "seed": 0, "epoch": 0, "knn": 10},
        {"arm": "a", "seed": 0, "epoch": 1, "knn": 20},
        {"arm": "a", "seed": 1, "epoch": 1, "knn": 30},
    ]
    starts = {1: {"knn": 0.9}}
    assert next(iter(RESULTS.by_epoch(["net/b"], ["knn"], starts=starts))) == {
        "arm": "b",
        "seed": 1,
        "epoch": 0,
        "knn": 0.9,
    }


def test_a_history_that_does_not_keep_all_epochs_says_which_they_are():
    history = [{"epoch": 5, "knn": 0.1}, {"epoch": 20, "knn": 0.2}]
    results = Results([run("thin", 0, {"history": history})])
    assert [point["epoch"] for point in results.by_epoch(["thin"], ["knn"])] == [5, 20]
    data = learning({"thin": {"history": history}}, "knn").data
    assert data.values.tolist() == [["thin", 5, 0.1], ["thin", 20, 0.2]]


def test_means_that_stand_side_by_side_are_over_the_same_seeds():
    runs = [run(arm, seed, {"acc": float(seed)}) for arm, n in (("a", 6), ("b", 3)) for seed in range(n)]
    runs += [run("one", 5, {"acc": 5.0}), run("other", 0, {"acc": 9.0}), run("other", 7, None)]
    results = Results(runs)
    equal = results.common(["a", "b", "one", "none"])
    assert set(equal.values("a", "acc")) == set(equal.values("b", "acc")) == {0, 1, 2}
    assert (equal.values("one", "acc"), equal.values("other", "acc")) == ({5: 5.0}, {0: 9.0})
    assert (len(equal.all_rows), len(equal.runs), len(results.all_rows)) == (8, len(runs), 11)
    assert set(results.common(["a"]).rows("a")) == set(range(6))


def test_arms_are_paired_by_seed():
    a, b = {0: 2.0, 1: 3.5, 4: 9.0}, {0: 1.0, 1: 2.0, 5: 0.0}
    assert difference(a, b) == {0: 1.0, 1: 1.5}
    assert (gap(a, b).mean, gap(a, b).n) == (1.25, 2)
    assert (gap(a, b).interval, gap(a, b).verdict.verdict) == (t_interval([1.0, 1.5]), "undecided")
    assert gap(a, {7: 1.0})[:3] == (None, None, 3)
    assert gap(a, {7: 1.0}).verdict.verdict == "not tested"
    assert not_run("Arm", 6, 0, "not tested") == ["Arm", NOT_RUN, None, None, 0, "not tested"]


def test_arms_are_a_table_that_names_its_own_mistakes(tmp_path):
    file = tmp_path / "arms.csv"
    head = "name,label,sweep,against,row,changes\n"
    file.write_text(
        head + 'a,"A, first",main,,Row 1,"method=x=y; k=[1, 2]; flag=true; share=0.5"\nb,B,more,a,,\n'
    )
    arms = read_arms(file)
    assert arms["a"].changes == {"method": "x=y", "k": [1, 2], "flag": True, "share": 0.5}
    assert (arms["a"].label, arms["a"].more, arms["b"].against) == ("A, first", {"row": "Row 1"}, "a")
    for text, message in (
        ("a,A,main,,,\na,B,main,,,\n", "the arm 'a' stands twice"),
        ("a,A,main,c,,\nb,B,main,d,,\n", "no arm 'c' to be held against"),
        ("a,A,main,,,method=x,\n", "not as many cells"),
        ("a,A\n", "not as many cells"),
        ("a,A,main,,,method\n", "'method' changes nothing; write name=value"),
    ):
        file.write_text(head + text)
        with pytest.raises(PapersError, match=message):
            read_arms(file)


def test_claims_may_name_a_family(tmp_path):
    file = tmp_path / "claims.csv"
    head = "name,sentence,statement,test,a,b,metric,decimals,exhibit,controls,evidence"
    file.write_text(f"{head}\nC1,s,t,greater,a,b,m,,table_1,,\n")
    assert [line.family for line in read_statements(file)] == [""]
    file.write_text(f"{head},family\nC1,s,t,greater,a,b,m,,table_1,,,ranks\n")
    assert [line.family for line in read_statements(file)] == ["ranks"]


def test_profiles_are_sizes_and_what_a_wing_adds(tmp_path):
    file = tmp_path / "profiles.toml"
    file.write_text(
        '[small]\nseeds = [0, 1]\ndataset = "cars"\nsettings = { lr = 0.1 }\nwarm = { epochs = 2 }\n'
    )
    assert read_sizes(file) == {"small": Size((0, 1), "cars", "", {"lr": 0.1}, {"warm": {"epochs": 2}})}


def test_tables_that_are_damaged_are_one_line(tmp_path):
    file = tmp_path / "table"
    file.write_text("name,label,sweep,against,chnges\n")
    with pytest.raises(PapersError, match="no column 'changes'; its head needs name, label"):
        read_arms(file)
    file.write_text("name,sentence\nC1,Abstract\n")
    with pytest.raises(PapersError, match="no column 'statement'"):
        read_statements(file)
    for text, message in (
        ("[small\n", "mend that place"),
        ('[small]\ndataset = "x"\n', "'small' has no seeds"),
    ):
        file.write_text(text)
        with pytest.raises(PapersError, match=message):
            read_sizes(file)


def test_a_setting_that_no_run_has_names_the_arm(monkeypatch):
    paper = known()["quadruplet_cars196"]
    bent = paper.study.arms["ce"]._replace(changes={"mehtod": "ce"})
    monkeypatch.setattr(paper.study, "arms", {"ce": bent})
    with pytest.raises(PapersError, match="arm 'ce' at profile smoke: the setting 'mehtod': Extra inputs"):
        paper.study.plan(paper.settings(profile="smoke"))


@pytest.mark.parametrize(
    ("paper", "images", "message"),
    [
        ("quadruplet_cars196", (2, 2, 2, 2), "has 4 classes, 5 or more are needed"),
        ("sampler_study", (2, 2, 2), "has 3 classes, 4 or more are needed"),
        ("median_triplet", (2, 1), "b has one image; a class needs two or more"),
        ("nar", (2, 1), "b has one image; a class needs two or more"),
    ],
)
def test_a_folder_that_a_wing_cannot_use_is_refused_where_runs_are_planned(paper, images, message, tmp_path):
    for name, count in zip("abcd", images, strict=False):
        (tmp_path / "folder" / name).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (8 + i, 8)).save(tmp_path / "folder" / name / f"{i}.png")
    study, parameters = get(paper).study, {"dataset": "folder", "data_root": str(tmp_path)}
    with pytest.raises(PapersError, match=message):
        study.find_data(validate(get(paper).settings, parameters | {"profile": "small"}))
