import pytest
from planted import reprint

from papers_lib.exhibits import published
from papers_lib.sampler_study import samplers
from papers_lib.sampler_study.study import STUDY, errata, printed

SETS = ("Market1501", "DukeMTMC", "MSMT17")
MUTATIONS = {
    "E1": {("Table III", "K=12", "DukeMTMC mAP"): 66.0},
    "E2": {("Table IV", "N=16", "DukeMTMC mAP"): 64.0, ("Table I", "Group Sampling", "DukeMTMC mAP"): 64.0},
    "E3": {("Table III", "K=4", "DukeMTMC R10"): 89.3},
    "E4": {("Table IV", "N=2", "DukeMTMC R1"): 7.1},
    "E5": {
        ("Table I", "Random Sampling", f"{n} mAP"): x for n, x in zip(SETS, (20.9, 2.4, 6.4), strict=True)
    },
    "E8": {("Table III", "K=16", "DukeMTMC mAP"): 67.0},
    "E9": {("Table II", "K=16", "Market1501 mAP"): 80.0},
    "E10": {("text", "samples per epoch", "value"): 64_000},
    "E11": {("text", "batch size", "value"): 96},
    "E12": {("Table IV", "N=1", "DukeMTMC mAP"): 40.0},
    "E13": {("Table IV", "N=8", "MSMT17 mAP"): 30.0},
    "E14": {("text", "iterations per epoch", "value"): 1_100},
    "E15": {("Table I", "CAP [6]", f"{n} mAP"): x for n, x in zip(SETS, (81.6, 64.5, 37.1), strict=True)},
    "E16": {("text", "N", "setting 7"): 128},
    "E17": {("Table II", "K=32", "DukeMTMC mAP"): 2.3},
    "E21": {("data sets", "MSMT17", "training images"): 20_000},
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_an_erratum_falls_when_the_paper_prints_something_else(monkeypatch, name):
    reprint(monkeypatch, "sampler_study", MUTATIONS[name])
    assert not errata.CHECKS[name](printed.numbers())[1]


def test_every_computed_erratum_can_fall():
    assert [e.name for e in STUDY.errata()] == [f"E{n}" for n in range(1, 25)]
    assert errata.CHECKS.keys() == MUTATIONS.keys() | {"E6"}  # on the names of rows, below


def test_the_caption_falls_when_table_4_lists_methods():
    frame = published.load("sampler_study")
    frame.loc[(frame["exhibit"] == "Table IV") & (frame["row"] == "N=1"), "row"] = "CAP [6]"
    assert not errata.caption(published.by_place(frame))[1]


def test_groups_of_one_that_lose_an_image_are_not_random_sampling(monkeypatch):
    class Loses(samplers.GroupSampler):
        def batches(self):
            return super().batches()[:-1]

    assert errata.groups_of_one_are_random()
    monkeypatch.setattr(samplers, "GroupSampler", Loses)
    assert not errata.groups_of_one_are_random()


def test_the_share_of_visited_clusters_is_that_of_walking_the_list():
    for k, classes, samples in ((1, 5, 12), (4, 5, 12), (4, 5, 20), (12, 7, 64), (16, 710, 12_800)):
        groups = [c for c in range(classes) for _ in range(k)]
        seen = {groups[i % len(groups)] for i in range(samples)}
        assert printed.visited(k, classes, samples) == pytest.approx(len(seen) / classes, abs=1 / classes)
    assert printed.visited(16, 710) == 1
    assert printed.visited(32, 1000) == pytest.approx(0.4)
    assert printed.visited(8, 3411) == pytest.approx(0.469, abs=5e-4)


def test_the_visited_table_sets_shares_beside_the_printed_map():
    table = printed.visited_table()
    assert len(set(table.columns)) == len(table.columns) == 9
    at = {row[0]: row for row in table.rows}
    assert at[16][1:5] == [100.0, 45.2, pytest.approx(80.0), 17.6]
    assert at[32][1:3] == [pytest.approx(56.34, abs=0.01), 0.8]
    assert at[8][5:7] == [pytest.approx(46.9, abs=0.01), 83.7]
    assert at[4][7:9] == [pytest.approx(31.76, abs=0.01), 37.1]
    assert printed.visited_table(market=400).rows[-1][1] == 100


def test_table_1_corrected_differs_in_two_duke_rows_only():
    rows = printed.table_1_corrected().rows
    assert len(rows) == 9
    wrong = [row for row in rows if row[4] != row[5]]
    assert [[*row[:2], *row[5:]] for row in wrong] == [
        ["Triplet Sampling (2)", "DukeMTMC", "K=12", 67.9, 81.8, "K=12", 81.8],
        ["Group Sampling", "DukeMTMC", "N=12", 63.8, 80.0, "N=16", 80.2],
    ]


def test_repeats_are_those_of_a_plain_search():
    value = printed.numbers()
    seen, found = {}, []
    for table in ("Table II", "Table III", "Table IV"):
        for row in value[table].index.unique(0):
            for name in SETS:
                key = name, value[table, row, f"{name} mAP"], value[table, row, f"{name} R1"]
                if key in seen:
                    found.append([name, seen[key], f"{table} {row}"])
                seen[key] = f"{table} {row}"
    rows = printed.duplicates_table().rows
    assert [row[:3] for row in rows] == sorted(found, key=lambda x: SETS.index(x[0])) and len(rows) == 2
    assert [row[4] for row in rows] == [None, "R5, R10"]
