import re
from decimal import Decimal

import pytest

from papers_lib.errors import PapersError
from papers_lib.exhibits import published
from papers_lib.papers import PAPERS

PAPER = "quadruplet_cars196"


@pytest.mark.parametrize("paper", PAPERS)
def test_every_number_parses_and_has_a_source(paper):
    frame = published.load(paper)
    assert list(frame.columns) == ["exhibit", "row", "column", "printed", "value", "unit", "source"]
    assert len(frame) > 0
    for row in frame.itertuples():
        assert Decimal(row.printed) == Decimal(repr(row.value)), row
        # A place in a paper, or a file, a thread or a page of a public repository.
        assert re.search(r"Table|Section|Figure|page|p\.|source|[\w.-]+/[\w.-]+", row.source), row


@pytest.fixture(scope="module")
def frame():
    return published.load(PAPER)


@pytest.fixture(scope="module")
def cell(frame):
    """The number of an exhibit, a row and a column."""
    return frame.set_index(["exhibit", "row", "column"])["value"]


def test_table_1_is_complete_and_keeps_its_digits(frame):
    table = frame[frame["exhibit"] == "Table 1"]
    assert table.groupby("row").size().to_dict() == dict.fromkeys(table["row"], 5)
    assert table["row"].nunique() == 8
    assert set(table["unit"]) == {"%"}
    assert all(re.fullmatch(r"\d\d\.\d\d", text) for text in table["printed"])
    # sums over the printed columns, added up by hand from the paper
    sums = table.groupby("column")["value"].sum().round(2).to_dict()
    assert sums == {"R@1": 470.34, "R@2": 565.01, "R@4": 640.43, "R@8": 699.33, "NMI": 455.78}


def test_the_numbers_of_the_text_follow_from_table_1_as_the_errata_say(cell):
    rows = ("Random Quadruplet Selection [9]", "Proposed Method 1", "Proposed Method 2")
    random, one, two = (cell["Table 1", row, "R@1"] for row in rows)
    assert round(one - random, 1) == cell["text", "Proposed Method 1", "gain in R@1"] == 3.4
    assert round(two - random, 2) == 4.57
    assert cell["text", "Proposed Method 2", "gain in R@1"] == 4.5


def test_the_baselines_recall_is_smart_minings_on_cars_and_their_nmi_that_on_birds(frame, cell):
    birds, cars = "Smart Mining Table 1 (CUB-200-2011)", "Smart Mining Table 2 (Cars196)"
    baselines = frame.loc[frame["exhibit"] == birds, "row"]
    assert len(baselines) == 5
    for row in baselines:
        assert cell["Table 1", row, "NMI"] == cell[birds, row, "NMI"] != cell[cars, row, "NMI"]
        for k in ("R@1", "R@2", "R@4", "R@8"):
            assert cell["Table 1", row, k] == cell[cars, row, k]


def test_numbers_of_other_papers_say_how_they_were_read(frame):
    other = frame[~frame["exhibit"].isin(["Table 1", "text", "settings"])]
    assert other["source"].str.contains("secondary source").all()


@pytest.mark.parametrize("paper", ["no_such_paper", "../runs", "", "exhibits"])
def test_an_unknown_paper_is_named(paper):
    with pytest.raises(PapersError, match=f"known papers: .*{PAPER}"):
        published.load(paper)


HEAD = "exhibit,row,column,printed,unit,source\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not a CSV"),
        ("a,b\n", "first line must be"),
        (HEAD + "T,r,c,1.0,%,p. 1\nT,r,c2,1.0\n", "line 3: 4 cells"),
        (HEAD + "T,r,c,1.0,%,\n", "line 2: an empty cell"),
        (HEAD + "T,r,c,1.O,%,p. 1\n", "'1.O' is not a number"),
        (HEAD + "T,r,c,nan,%,p. 1\n", "'nan' is not a number"),
        (b"\xff\xfe", "not a CSV"),
    ],
)
def test_a_broken_file_is_named_with_its_line(tmp_path, text, says):
    file = tmp_path / "table_1.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(PapersError, match=says) as caught:
        published.read(file)
    assert "table_1.csv" in str(caught.value) and "\n" not in str(caught.value)


def test_a_cell_transcribed_twice_is_refused(tmp_path, monkeypatch):
    folder = tmp_path / "papers_lib" / "toy" / "study" / "published"
    folder.mkdir(parents=True)
    (folder / "a.csv").write_text(HEAD + "T,r,c,1.0,%,p. 1\n")
    (folder / "b.csv").write_text(HEAD + "T,r,c,2.0,%,p. 1\n")
    monkeypatch.setattr(published, "__file__", str(tmp_path / "papers_lib" / "exhibits" / "x.py"))
    with pytest.raises(PapersError, match="T / r / c is transcribed twice"):
        published.load("toy")
