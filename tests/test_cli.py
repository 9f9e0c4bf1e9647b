"""The command line on a paper with a tiny data set: what it prints, and its exit codes."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from papers_lib import cli, numerics, papers
from papers_lib.exhibits import ledger
from papers_lib.runs import worker
from papers_lib.runs.store import Store, read_spec
from papers_lib.runs.sweep import Summary

ROOT = Path(__file__).parents[1]
PAPER = "quadruplet_cars196"
ONE = ["-p", "profile", "smoke", "-p", "arms", "start", "-p", "seeds", "0"]


def out(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


def test_list_names_the_papers(capsys):
    assert cli.main(["list"]) == 0
    assert PAPER in out(capsys)
    cli.main(["list", "--json"])
    assert [paper["name"] for paper in json.loads(out(capsys))] == list(papers.PAPERS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sweep", "nothing"], f"unknown paper 'nothing'; known: {', '.join(papers.PAPERS)}"),
        (["sweep", PAPER, "-p", "sedds", "1"], "unknown parameter 'sedds': did you mean 'seeds'?"),
        (["sweep", PAPER, "-p", "profile", "huge"], "profile: "),
        (["sweep", PAPER, "-p", "slots", "nan"], "slots: "),
        (["sweep", PAPER, "-p", "arms", "metod_2"], "arms: unknown 'metod_2'; known are"),
        (["sweep", PAPER, "-p", "data_root", "nowhere", "--dry-run"], "nowhere"),
        (["sweep", PAPER, *ONE, "--num-gpus", "1"], "CPUs and GPUs per run are for executor 'ray'"),
        (["run", PAPER, "-p", "slots", "0"], "slots: "),
        (["sweep", PAPER, "-p", "weights", "no.pt"], "no.pt; give the path"),
        (["sweep", PAPER, "-p", "seeds", "-1"], "seeds.0: input should be greater than or equal to 0"),
        (["sweep", PAPER, "-p", "seeds", "0,0"], "seeds: 0 stands twice"),
        (["sweep", PAPER, "-p", "arms", "ce,ce"], "arms: ce stands twice"),
        (["sweep", PAPER, "-p", "seeds", "0", "--seeds", "1"], "'seeds' is given more than once"),
        (["sweep", PAPER, "-p", "dataset", "cars916"], "dataset: unknown 'cars916'; known are"),
        (["sweep", PAPER, "-p", "backbone", "vgg"], "backbone: unknown 'vgg'; known are"),
        (["sweep", PAPER, "-p", "profile", "small"], "no cars196_half in "),
        (
            ["show", PAPER, "table_9"],
            "has no exhibit 'table_9', and no run's key begins so; `show quadruplet",
        ),
        (["run", PAPER, "--output", "."], "is a folder: name another file"),
        (["run", PAPER, "--output", str(papers.get(PAPER).notebook)], "is the notebook itself"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, message, capsys, places):
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["--limit", "0"],
        ["--limit", "-1"],
        ["--slots", "0"],
        ["--num-gpus", "nan"],
        ["--seeds"],
        ["-p", "seeds"],
    ],
)
def test_a_wrong_option_is_one_line_too(arguments, capsys, places):
    with pytest.raises(SystemExit) as caught:
        cli.main(["sweep", PAPER, *arguments])
    assert caught.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_collect_refuses_parameters_that_it_would_ignore(capsys, places):
    with pytest.raises(SystemExit):
        cli.main(["collect", PAPER, "-p", "profile", "small"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_without_a_gpu_is_said_once_and_starts_nothing(capsys, places):
    assert cli.main(["sweep", PAPER, *ONE, "-p", "device", "cuda"]) == 2
    assert "torch sees no GPU" in capsys.readouterr().err
    assert not (places / "runs").exists()


def test_failures_of_one_cause_are_one_line():
    failed = [
        {"run": "warm", "seed": 0, "reason": "a.jpg is empty"},
        {"run": "ce", "seed": 0, "reason": "needs warm seed 0, which failed: a.jpg is empty"},
        {"run": "warm", "seed": 1, "reason": "a.jpg is empty"},
    ]
    assert cli._by_reason(failed) == ["failed: warm seed 0, warm seed 1: a.jpg is empty"]


@pytest.mark.parametrize("module", ["papers_lib", "data_prep"])
def test_a_closed_pipe_and_a_full_disk_are_no_traceback(module, places):
    command = [sys.executable, "-m", module, "list"]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stderr) == (141, "")
    if Path("/dev/full").exists():
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT, check=False
            )
        assert done.returncode == 2 and done.stderr.count("\n") == 1


def test_sigterm_stops_a_sweep_as_ctrl_c_does():
    code = (
        "import os, signal; from papers_lib import cli, entry; entry.stop_politely()\n"
        "cli._list = lambda options: os.kill(os.getpid(), signal.SIGTERM)\n"
        "raise SystemExit(cli.main(['list']))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert done.returncode == 143


def test_a_sweep_from_dry_run_to_the_store(capsys, places):
    sweep = ["sweep", PAPER, *ONE, "--json"]
    sweep[sweep.index("0")] = "0,1"
    assert cli.main([*sweep, "--dry-run"]) == 0
    assert json.loads(out(capsys))["to_do"] == 2
    assert cli.main([*sweep, "--print-commands"]) == 0
    first = json.loads(out(capsys))[0]
    subprocess.run(shlex.split(first), check=True, capture_output=True, cwd=Path(__file__).parents[1])
    assert [result.spec.seed for result in Store().finished()] == [0]
    assert cli.main(sweep) == 0
    assert json.loads(out(capsys)) == {"done": 1, "cached": 1, "in_ledger": 0, "failed": []}
    assert cli.main(sweep) == 0
    assert json.loads(out(capsys))["cached"] == 2
    assert cli.main(["collect", PAPER, "--json"]) == 0
    assert json.loads(out(capsys))["added"] == 0, "smoke never enters the ledger"
    assert ledger.read(PAPER) == []


PILOTS = ["sweep", PAPER, *ONE, "-p", "pilot", "true"]
PILOTS[PILOTS.index("start")] = "start,method_2"


def test_pilots_are_said_as_they_end_and_no_more_than_asked(capsys, places, monkeypatch):
    said, asked = [], []

    def execute(name, specs, store, slots, retry_failed, show, on_done, num_cpus, num_gpus):
        asked.append((len(specs), num_gpus))
        for spec in specs:
            assert worker.compute(store.prepare(spec))["status"] in ("done", "cached")
            on_done(store.result(spec))
            said.append([line.partition(":")[0] for line in out(capsys).splitlines()])
        return Summary(len(specs), 0, [])

    monkeypatch.setattr("papers_lib.runs.executors.execute", execute)
    monkeypatch.setattr(worker, "_resolve", lambda name: lambda spec: {"x": 1.0})
    assert cli.main([*PILOTS, "--limit", "1", "--num-gpus", "0.5"]) == 0
    assert (asked, said) == ([(1, 0.5)], [["pilot of method_2"]])
    assert out(capsys).startswith("the whole plan: 2 runs to do")
    assert cli.main(PILOTS) == 0
    assert said[1:] == [["pilot of method_2"], ["pilot of start"]]  # the first from the store, and once
    out(capsys)
    assert cli.main([*PILOTS, "--json"]) == 0
    assert len(json.loads(out(capsys))) == 3


def test_pilots_have_commands_too(capsys, places):
    assert cli.main([*PILOTS, "--print-commands", "--json"]) == 0
    folders = [Path(command.split()[-1]) for command in json.loads(out(capsys))]
    assert [(spec.label, spec.pilot) for spec in map(read_spec, folders)] == [
        ("method_2", True),
        ("start", True),
    ]
    assert not list(Store().finished())


def test_a_missing_stand_in_says_how_to_make_it(capsys, places, nowhere):
    assert cli.main(["sweep", PAPER, *ONE]) != 0
    captured = capsys.readouterr()
    assert "`make data` draws it" in captured.out + captured.err


@pytest.mark.parametrize("verb", ["claims", "errata", "coverage"])
def test_reports_are_json_and_text(verb, capsys, places):
    assert cli.main([verb, "--json"]) == 0
    assert json.loads(out(capsys))
    assert cli.main([verb]) == 0
    assert "\n" in out(capsys)


def test_coverage_counts_no_cell_without_a_run(capsys, places):
    cli.main(["coverage", "--json"])
    table = next(e for e in json.loads(out(capsys)) if e["exhibit"] == "Table 1")
    assert (table["printed"], table["missing"], table["reproduced"]) == (40, 40, {})


def test_why_tells_runs_that_are_missing(capsys, places):
    assert cli.main(["why", PAPER, "-p", "arms", "random", "--json"]) == 0
    assert {reason["state"] for reason in json.loads(out(capsys))} == {"not run"}


def test_an_unreadable_ledger_names_its_line(capsys, places):
    path = ledger.path(PAPER)
    path.parent.mkdir(parents=True)
    path.write_text("{half a row\n")
    assert cli.main(["claims"]) == 2
    assert f"{path}, line 1" in capsys.readouterr().err
    assert path.read_text() == "{half a row\n"


def test_alone_it_says_what_can_be_done_and_what_to_do_first(capsys):
    assert cli.main([]) == 0
    said = out(capsys)
    assert "To begin:" in said
    assert all(verb in said for verb in ("list", "run", "sweep", "claims", "doctor"))


def test_the_doctor_tells_machine_places_and_arithmetic(capsys, places, monkeypatch):
    states = {"projection": "right", "strided_1x1": "wrong", "bfloat16_pixel": "right", "tf32": "absent"}
    monkeypatch.setattr(numerics, "check", states.__getitem__)
    assert cli.main(["doctor", "--json"]) == 0
    found = {finding["name"]: finding for finding in json.loads(out(capsys))}
    assert {"processor", "instruction set", "torch", "threads", "memory", "disk", "data", "runs"} <= set(
        found
    )
    assert "standin (1 sets)" in found["data"]["found"]
    assert found[numerics.CHECKS["strided_1x1"].what]["verdict"] == "note", "no network of ours has it"
    assert all(finding["advice"] and "\n" not in finding["advice"] for finding in found.values())
    states["projection"] = "wrong"
    assert cli.main(["doctor"]) == 1
    assert f"bad   {numerics.CHECKS['projection'].what}: wrong" in out(capsys)


def test_what_is_read_follows_the_precision_of_the_rows_and_what_is_asked_stays():
    model = papers.get(PAPER).settings
    row = SimpleNamespace(profile="small", settings={"precision": "bfloat16"})
    rows = [row, row, SimpleNamespace(profile="small", settings={"precision": "float32"})]
    assert papers.shown(model(profile="small"), rows).precision == "bfloat16"
    assert papers.shown(model(profile="small", precision="float32"), rows).precision == "float32"
    assert papers.shown(model(profile="medium"), rows).precision == ""
    assert papers.shown(model(profile="small"), []).precision == ""


def test_rows_computed_elsewhere_are_compared_by_what_they_answer(capsys, places, monkeypatch, tmp_path):
    monkeypatch.setenv("PAPERS_LEDGER", str(ROOT / "figures"))
    assert cli.main(["compare", PAPER, str(tmp_path)]) == 2
    assert "no row of" in capsys.readouterr().err
    row = ledger.read(PAPER)[0]
    metrics = row.metrics | {"R@1": row.metrics["R@1"] + 0.25}
    moved = row.model_copy(update={"metrics": metrics})
    monkeypatch.setattr(ledger, "read_file", lambda file: [moved])
    monkeypatch.setattr(ledger, "read", lambda paper: [row])
    assert cli.main(["compare", PAPER, str(tmp_path), "--json"]) == 0
    found = json.loads(out(capsys))
    assert found["rows"] == 1
    assert found["differences"]["R@1"] == {"largest": pytest.approx(0.25), "mean": pytest.approx(0.25)}
    assert found["differences"]["NMI"]["largest"] == 0


def test_readers_are_shown_the_profile_of_most_rows(monkeypatch):
    """A few runs of a larger profile stand beside the finished study, and not in its place."""
    paper, row = papers.get(PAPER), ledger.read(PAPER)[0]
    for profiles, shown in (
        ([], "small"),
        (["frozen", "small", "frozen"], "frozen"),
        (["frozen", "medium", "medium", "frozen"], "medium"),
    ):
        rows = [row.model_copy(update={"profile": profile}) for profile in profiles]
        monkeypatch.setattr(ledger, "read", lambda name, rows=rows: rows)
        assert papers.shown_profile(paper) == shown


def test_every_exhibit_of_every_paper_can_be_shown_by_name(capsys):
    for name, paper in papers.PAPERS.items():
        book = papers.open_paper(name, profile="frozen")
        count = len(book._tables) + len(book._figures) + 2  # claims and errata; no name is another's
        assert len(book.exhibits) == count
        assert {"claims", "claims_forest", "errata", "figure_1"} <= set(book.exhibits), paper
    assert cli.main(["show", PAPER]) == 0
    assert "table_1 " in out(capsys)


def test_a_table_and_a_run_are_shown(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("PAPERS_FIGURES", str(tmp_path))
    monkeypatch.delenv("PAPERS_LEDGER", raising=False)
    assert cli.main(["show", PAPER, "table_1_corrected"]) == 0
    shown = out(capsys)
    assert "Proxy-NCA" in shown and Path(shown.split()[-1]).read_text()
    row = ledger.read(PAPER)[0]
    assert cli.main(["show", PAPER, row.key[:16]]) == 0
    assert json.loads(out(capsys))["metrics"] == json.loads(row.model_dump_json())["metrics"]


@pytest.mark.parametrize("verb", ["list", "claims", "errata", "coverage", f"show {PAPER} table_1", "why nar"])
def test_on_a_terminal_lines_fit_and_paths_stay_whole(verb, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("PAPERS_FIGURES", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert cli.main(verb.split()) == 0
    lines = [re.sub(r"\x1b\[[\d;]*m", "", line) for line in out(capsys).splitlines()]
    assert len(lines) > 4
    assert [line for line in lines if len(line.rstrip()) > 100 and str(tmp_path) not in line] == []
    assert all(Path(line.strip()).exists() for line in lines if line.strip().startswith(str(tmp_path)))


def test_the_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["--version"])
    assert stopped.value.code == 0
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] in out(capsys)
