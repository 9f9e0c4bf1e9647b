import json
import subprocess
import sys

import pytest
from hypothesis import given
from mutations import damaged, fuzz
from planted import MADE, planted

from papers_lib.errors import PapersError
from papers_lib.exhibits import ledger
from papers_lib.runs.spec import Data, RunSpec, digest
from papers_lib.runs.store import Result

PAPER = "quadruplet_cars196"


@pytest.fixture(autouse=True)
def _figures(tmp_path, monkeypatch):
    monkeypatch.setenv("PAPERS_FIGURES", str(tmp_path / "figures"))
    monkeypatch.setenv("PAPERS_LEDGER", str(tmp_path / "figures"))


def spec(seed=0, fingerprint="f1", **settings):
    return RunSpec(
        paper=PAPER,
        function="papers_lib.toy.study:run",
        profile="small",
        settings={"seed": seed, "lr": 0.1, **settings},
        data=Data(name="toy", root="/somewhere/private", fingerprint=fingerprint),
    )


def row(seed=0, key=None, finished="2026-01-01T00:00:00Z", of=None, **changes):
    of = of or spec(seed)
    known = {"key": key or digest([of.asked(), "c0de"]), "code": "c0de", "seconds": 1.5, "finished": finished}
    return planted(of, **{"metrics": {"R1": 0.5 + seed / 100}} | known | changes)


def test_a_key_is_added_once_and_the_file_stays_as_it_was():
    ledger.append(PAPER, [row(0)])
    before = ledger.path(PAPER).read_bytes(), ledger.path(PAPER).stat().st_mtime_ns
    assert ledger.append(PAPER, [row(0), row(0, metrics={"R1": 0.9})]) == 0
    assert (ledger.path(PAPER).read_bytes(), ledger.path(PAPER).stat().st_mtime_ns) == before


def test_rows_come_back_in_a_file_that_no_order_of_collection_changes():
    assert ledger.read(PAPER) == []
    assert ledger.append(PAPER, [row(2), row(0)]) == 2
    ledger.append(PAPER, [row(1)])
    assert ledger.read(PAPER) == [row(0), row(1), row(2)]
    one = ledger.path(PAPER).read_text()
    ledger.path(PAPER).unlink()
    ledger.append(PAPER, [row(1), row(2), row(0)])
    assert ledger.path(PAPER).read_text() == one
    first = json.loads(one.splitlines()[0])
    assert first["seed"] == 0 and list(first) == sorted(first)


@pytest.mark.parametrize(
    "damage", [b"{broken", b'{"key": "only"}', b"[]", b'{"metrics": NaN}', b"\x00", b"c\xff"]
)
def test_a_corrupt_line_is_named(damage):
    ledger.append(PAPER, [row(0), row(1)])
    file = ledger.path(PAPER)
    first, second = file.read_bytes().splitlines()
    file.write_bytes(b"\n".join([first, damage, second, b""]))
    with pytest.raises(PapersError, match=r"ledger\.jsonl, line 2: .*git") as caught:
        ledger.append(PAPER, [row(2)])
    assert "\n" not in str(caught.value)
    assert file.read_bytes().splitlines()[1] == damage  # nothing is thrown away


def test_a_line_that_a_merge_doubled_counts_once():
    ledger.append(PAPER, [row(0), row(1)])
    file = ledger.path(PAPER)
    file.write_text(file.read_text() * 2)
    assert len(ledger.read(PAPER)) == 2
    assert ledger.append(PAPER, [row(2)]) == 1
    assert len(file.read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"lr": 0.1', '"lr": 0.2'),
        ('"seed": 0, "settings"', '"seed": 1, "settings"'),
        ('"name": "toy"', '"name": "toy2"'),
        ('"fingerprint": "f1"', '"fingerprint": "f2"'),
        ('"code": "c0de"', '"code": "c0d3"'),
        ("study:run", "other:run"),
        ('"R1": 0.5', '"R1": 0.9'),
        ('"R1": 0.5', '"R2": 0.5'),
        ('"seconds": 1.5', '"seconds": 0.5'),
    ],
)
def test_a_row_that_was_changed_is_named(old, new):
    """By its digest; without one, by what identity and key are made of."""
    ledger.append(PAPER, [row(0)])
    file = ledger.path(PAPER)
    whole = file.read_text()
    bare = whole.replace(f'"digest": "{json.loads(whole)["digest"]}", ', "")
    file.write_text(bare)
    assert ledger.read(PAPER) == [row(0)]
    for text in (whole, bare):
        assert old in text
        file.write_text(text.replace(old, new))
        if text == bare and old.startswith(('"R1"', '"seconds"')):
            assert ledger.read(PAPER) != [row(0)]
        else:
            with pytest.raises(PapersError, match="line 1") as caught:
                ledger.read(PAPER)
            assert "\n" not in str(caught.value)


def test_collecting_nothing_gives_old_rows_their_digest():
    ledger.append(PAPER, [row(0)])
    file = ledger.path(PAPER)
    whole = file.read_text()
    file.write_text(whole.replace(f'"digest": "{json.loads(whole)["digest"]}", ', ""))
    assert ledger.append(PAPER, []) == 0 and file.read_text() == whole


def test_a_row_that_would_not_be_read_again_is_not_written():
    ledger.append(PAPER, [row(0)])
    before = ledger.path(PAPER).read_bytes()
    with pytest.raises(PapersError, match="gives no ledger row"):
        ledger.append(PAPER, [row(1, identity="another")])
    assert ledger.path(PAPER).read_bytes() == before


LEDGER = row(0).model_dump_json().encode()  # without a digest, which would find all damage


@fuzz
@given(content=damaged(LEDGER))
def test_a_damaged_ledger_is_one_line_or_whole(content):
    file = ledger.path(PAPER)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    try:
        ledger.read(PAPER)
    except PapersError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("metrics", [{}, {"R1": None}, {"R1": "x"}, {"R1": []}])
def test_a_metric_that_is_missing_or_bent_names_its_row(metrics):
    rows = [row(0), row(1, metrics=metrics)]
    with pytest.raises(PapersError, match=rf"row {rows[1].key[:12]} \(seed 1\)") as caught:  # noqa: SIM117
        with ledger.reading(PAPER):
            _ = {one.seed: 100 * float(one.metrics["R1"]) for one in rows}
    assert "\n" not in str(caught.value)


def test_nan_in_metrics_is_refused_on_both_ways():
    with pytest.raises(PapersError, match="plain JSON"):
        ledger.append(PAPER, [row(0, metrics={"R1": float("nan")})])
    ledger.append(PAPER, [row(0)])
    file = ledger.path(PAPER)
    file.write_text(file.read_text().replace('"R1": 0.5', '"R1": NaN'))
    with pytest.raises(PapersError, match="line 1"):
        ledger.read(PAPER)


def test_find_takes_the_newest_row_of_the_same_question():
    months = {"old": "2026-01", "new": "2026-02"}
    rows = [row(0, key, f"{month}-01T00:00:00Z", code=key) for key, month in months.items()]
    rows.append(row(1, "seed", "2026-03-01T00:00:00Z"))
    assert ledger.find(rows, spec(0)).key == "new"
    assert ledger.find(rows, spec(0, lr=0.2)) is None


def test_find_compares_the_data_of_a_run_and_of_those_it_needs_where_the_fingerprint_is_known():
    def needing(fingerprint):
        return spec(0).model_copy(update={"needs": (spec(7, fingerprint),)})

    for asked in (lambda fingerprint: spec(0, fingerprint), needing):
        rows = [row(0, of=asked("f1"))]
        assert ledger.find(rows, asked("f1")) is not None
        assert ledger.find(rows, asked("")) is not None
        assert ledger.find(rows, asked("f2")) is None


def test_from_result_leaves_the_place_of_the_data_out():
    made = MADE | {"key": "k", "dirty": True, "host": "not kept"}
    result = Result(spec=spec(3), metrics={"R1": 0.5}, provenance=made)
    got = ledger.from_result(result)
    assert (got.seed, got.key, got.dirty, got.metrics) == (3, "k", True, {"R1": 0.5})
    assert "private" not in got.model_dump_json()
    assert got.identity == spec(3).identity
    with pytest.raises(PapersError, match="no full provenance"):
        ledger.from_result(Result(spec=spec(3), metrics={}, provenance={}))


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "figures").write_text("a file stands in the way")
    with pytest.raises(PapersError) as caught:
        ledger.append(PAPER, [row(0)])
    assert "\n" not in str(caught.value)


WRITER = """
import sys
from papers_lib.exhibits import ledger
for line in sys.stdin:
    row = ledger.Row.model_validate_json(line)
    ledger.append(row.paper, [row])
"""


def test_two_processes_lose_nothing_and_double_nothing():
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER], stdin=subprocess.PIPE, text=True) for _ in range(2)
    ]
    for writer, start in zip(writers, (0, 10), strict=True):
        lines = [row(seed).model_dump_json() + "\n" for seed in range(start, start + 15)]
        writer.stdin.write("".join(lines))
        writer.stdin.close()
    assert [writer.wait(60) for writer in writers] == [0, 0]
    assert [r.seed for r in ledger.read(PAPER)] == list(range(25))


def test_rows_are_read_here_and_there_and_written_in_one_place(monkeypatch, tmp_path):
    first, second = row(), row(seed=1)
    ledger.append(PAPER, [first])
    before = ledger.path(PAPER).read_bytes()
    ledger.path(PAPER).chmod(0o444)
    monkeypatch.setenv("PAPERS_FIGURES", str(tmp_path / "elsewhere"))
    assert ledger.append(PAPER, [first, second]) == 1, "the first is in the ledger that is read"
    assert [r.key for r in ledger.read(PAPER)] == [first.key, second.key]
    assert (tmp_path / "figures" / PAPER / "ledger.jsonl").read_bytes() == before
    assert ledger.path(PAPER).read_bytes().count(b"\n") == 1
