"""Each trap of papermill (P1-P15) is an error of one line, and leaves the notebook for inspection."""

import subprocess
import sys
import time
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from sweeps import wait_for

from papers_lib.errors import PapersError
from papers_lib.runs import notebook as strict
from papers_lib.runs.notebook import check, execute, strip, update
from papers_lib.settings import NotebookSettings


class Settings(NotebookSettings):
    """Two parameters beside the shared ones."""

    name: str = "plain"
    rate: float = 0.5


def parameters_cell(**changed):
    values = {**Settings().model_dump(mode="json"), "profile": "smoke", **changed}
    return "\n".join(f"{name} = {value!r}" for name, value in values.items())


def notebook(*cells, first=None):
    first = new_code_cell(first or parameters_cell(), metadata={"tags": ["parameters"]})
    body = [cell if not isinstance(cell, str) else new_code_cell(cell) for cell in cells]
    return new_notebook(
        cells=[new_markdown_cell("# Title"), first, *body],
        metadata={"kernelspec": dict(strict.KERNELSPEC)},
    )


def saved(path, *cells, **given):
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook(*cells, **given), path)
    return path


def refuses(match, nb, **parameters):
    with pytest.raises(PapersError, match=match) as caught:
        check(nb, parameters, Settings, "toy.ipynb")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("says", "given"),
    [
        ("unknown parameter 'rat': did you mean 'rate'", {"rat": 1.0}),  # P1
        *(
            ("not plain JSON", {"seeds": x}) for x in ((1, 2), np.int64(1), Path("x"), {1}, {1: "a"})
        ),  # P5, P11
        ("NaN and infinity are refused", {"rate": float("nan")}),  # P6
        ("rate: ", {"rate": "007"}),
    ],
)
def test_a_parameter_that_papermill_would_pass_as_something_else(says, given):
    refuses(says, notebook(), **given)


def instead(new):
    """The parameters cell with `new` in place of the lines of its names."""
    names = [part.split(":")[0].split(" ")[0] for part in new.split("; ")]
    return "\n".join([x for x in parameters_cell().splitlines() if x.split(" ")[0] not in names] + [new])


DERIVED = ("out = name + '-1'", "out = f'{name}'", "out = float('nan')", "out = [rate]", "out: str")
STATEMENTS = ("import os", "print(1)", "a, b = 1, 2", "a = b = 3", "x.y = 1")
UNSEEN = (
    "rate: float | None = 0.5",
    "rate: typing.Any = 0.5",
    "rate = 0.5  # a = b",
    "rate = 0.5; slots = 1",
)


@pytest.mark.parametrize(
    ("says", "cell"),
    [
        ("tuple, not plain JSON", parameters_cell(seeds=(1, 2))),  # P5
        ("rate: ", parameters_cell(rate="1_000")),  # P6
        *(("no literal", f"{parameters_cell()}\n{line}") for line in DERIVED),  # P7
        *(("write `name: type = literal`", f"{parameters_cell()}\n{line}") for line in STATEMENTS),
        *(("papermill cannot see", instead(line)) for line in (*UNSEEN, "name = 'a=b'")),  # P8, P9
        ("sets rate twice", parameters_cell() + "\nrate = 0.7"),
        ("has, unknown to the settings, extra", parameters_cell(extra=1)),
        ("lacks rate", parameters_cell().replace("rate = 0.5", "")),
        ("syntax error", "rate = = 1"),
    ],
)
def test_a_parameters_cell_that_is_not_literals_of_the_settings_names(says, cell):
    refuses(says, notebook(first=cell))


@pytest.mark.parametrize("tag", ["raises-exception", "skip-execution", "injected-parameters"])
def test_p10_tags(tag):
    refuses(f"has the tag {tag}", notebook(new_code_cell("1", metadata={"tags": [tag]})))


def test_the_parameters_cell_is_the_first():
    nb = notebook("x = 1")
    nb.cells[1].metadata["tags"] = []
    refuses("tag the first code cell", nb)
    nb.cells[2].metadata["tags"] = ["parameters"]
    refuses("tag the first code cell", nb)


def test_no_notebook(tmp_path):
    for name, text in (("absent", None), ("empty", ""), ("broken", '{"cells": [')):
        path = tmp_path / f"{name}.ipynb"
        if text is not None:
            path.write_text(text)
        with pytest.raises(PapersError, match=f"{name}.ipynb"):
            execute(path, tmp_path / "out.ipynb", {}, Settings, log=False)


def test_p12_an_output_folder_that_cannot_be_made(tmp_path):
    path = saved(tmp_path / "nb.ipynb", "x = 1")
    (tmp_path / "file").touch()
    with pytest.raises(PapersError, match="cannot write"):
        execute(path, tmp_path / "file" / "out.ipynb", {}, Settings, log=False)


def fails(tmp_path, *cells, match, **options):
    path = saved(tmp_path / "nb.ipynb", *cells)
    output = tmp_path / "out" / "nb.ipynb"
    with pytest.raises(PapersError, match=match) as caught:
        execute(path, output, {"rate": 0.25}, Settings, log=False, **options)
    assert "\n" not in str(caught.value) and str(output) in str(caught.value)
    kept = nbformat.read(output, as_version=4)
    assert "rate = 0.25" in "".join(c.source for c in kept.cells)
    return kept


def test_p2_dead_kernel(tmp_path):
    cells = ("import os, signal", "os.kill(os.getpid(), signal.SIGKILL)", "late = 1")
    fails(tmp_path, *cells, match=r"the kernel died in code cell 4 \(`os.kill")


def test_p3_cell_timeout(tmp_path):
    match = r"code cell 3 .* longer than 2 s: raise `cell_timeout`"
    fails(tmp_path, "import time; time.sleep(60)", match=match, cell_timeout=2)


def test_p4_exit_zero(tmp_path):
    kept = fails(tmp_path, "import sys\nsys.exit(0)", "late = 1", match=r"cell 3 .* raised SystemExit: 0")
    assert "late = 1" in kept.cells[-1].source
    assert any(o.output_type == "error" for c in kept.cells for o in c.get("outputs", []))


def test_p15_watchdog_ends_the_kernel_and_its_children(tmp_path, monkeypatch):
    """The watchdog's clock is far ahead as soon as the kernel and its child are there."""
    pids = tmp_path / "pids"
    clock = time.monotonic
    monkeypatch.setattr(strict, "monotonic", lambda: clock() + 1000 * pids.exists())
    fails(
        tmp_path,
        "import os, subprocess, time",
        "child = subprocess.Popen(['sleep', '600'])\n"
        f"open({str(pids) + '.new'!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
        f"time.sleep(1); os.rename({str(pids) + '.new'!r}, {str(pids)!r})",
        "time.sleep(600)",
        match=r"took longer than 600 s, last in code cell 5 .*: raise `timeout`",
        timeout=600,
    )
    wait_for(lambda: not any(map(running, pids.read_text().split())), 5)


def running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_p14_a_port_clash_is_tried_again_once(tmp_path, monkeypatch):
    path, calls = saved(tmp_path / "nb.ipynb", "x = 1"), []

    def clash(place, timeout, log):
        calls.append(place)
        return {"type": "RuntimeError", "text": "Kernel died before replying to kernel_info"}

    monkeypatch.setattr(strict, "_run", clash)
    with pytest.raises(PapersError, match="Kernel died before replying"):
        execute(path, tmp_path / "out.ipynb", {}, Settings, log=False)
    assert len(calls) == 2


HARD = "Zoë {x} and y"


def test_p6_p12_p13_runs_whole_in_hard_places(tmp_path, capfd, monkeypatch):
    """Braces, spaces, letters; text keeps its type; kernel in the notebook's folder; repeatable."""
    monkeypatch.setenv("MPLBACKEND", "agg")
    folder = tmp_path / HARD
    path = saved(
        folder / f"{HARD}.ipynb",
        "import os\nopen('here.txt', 'a').write(name); (type(name).__name__, name, rate, seeds)",
        "print(os.environ.get('MPLBACKEND', '').rpartition('.')[2]); rate",
    )
    before, here = path.read_bytes(), Path.cwd()
    outputs = [tmp_path / "made" / HARD / "a.ipynb", tmp_path / "made" / HARD / "b.ipynb"]
    values = {"name": "007", "seeds": [0, 1], "rate": 2.0}
    for output in outputs:
        execute(path, output, values, Settings)
    assert path.read_bytes() == before and Path.cwd() == here
    assert (folder / "here.txt").read_text() == "007007"
    result = nbformat.read(outputs[0], as_version=4)
    assert result.cells[3].outputs[0].data["text/plain"] == "('str', '007', 2.0, [0, 1])"
    assert result.cells[4].outputs[0].text == "backend_inline\n"
    assert capfd.readouterr().err == ""  # no terminal: what went well is not news
    for output in outputs:
        strip(output)
    assert outputs[0].read_bytes() == outputs[1].read_bytes()
    assert "papermill" not in outputs[0].read_text() and "duration" not in outputs[0].read_text()
    with pytest.raises(PapersError, match=r"ran with name = '007', .* says 'plain'"):
        update(path, outputs[0])
    same_values(path, outputs[0], values)


def same_values(path, executed, values):
    """The committed notebook gets the outputs, counts 1..n, and keeps its parameters cell."""
    ours = nbformat.read(path, as_version=4)
    ours.cells[1].source = parameters_cell(**values)
    theirs = nbformat.read(executed, as_version=4)
    theirs.cells[1].source = ours.cells[1].source
    nbformat.write(ours, path)
    nbformat.write(theirs, executed)
    update(path, executed)
    done = nbformat.read(path, as_version=4)
    assert [c.execution_count for c in done.cells if c.cell_type == "code"] == [1, 2, 3]
    assert done.cells[3].outputs[1].execution_count == 3
    assert not any("injected-parameters" in c.metadata.get("tags", []) for c in done.cells)
    assert done.cells[1].id == ours.cells[1].id
    again = path.read_bytes()
    update(path, executed)
    assert path.read_bytes() == again
    theirs.cells[3].source += "  # changed"
    nbformat.write(theirs, executed)
    with pytest.raises(PapersError, match="has changed since"):
        update(path, executed)


def test_a_half_run_notebook_is_no_update(tmp_path):
    path = saved(tmp_path / "nb.ipynb", "x = 1")
    with pytest.raises(PapersError, match="did not run to its end"):
        update(path, path)


def test_p6_what_papermill_passed_is_compared():
    nb = notebook(new_code_cell("rate = '0.25'", metadata={"tags": ["injected-parameters"]}))
    for number, cell in enumerate([c for c in nb.cells if c.cell_type == "code"], 1):
        cell.execution_count = number
    answer = {"type": "", "text": ""}
    assert "papermill passed" in strict._problem(nb, answer, {"rate": 0.25}, 1, 1)
    assert strict._problem(nb, answer, {"rate": "0.25"}, 1, 1) == ""


def test_importing_it_brings_neither_torch_nor_papermill():
    code = "import sys, papers_lib.runs.notebook; print({'torch', 'papermill'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_relative_places_mean_the_folder_of_the_caller(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PAPERS_RUNS", "runs of Zoë")
    monkeypatch.delenv("PAPERS_FIGURES", raising=False)
    environment = strict._environment(tmp_path)
    assert environment["PAPERS_RUNS"] == str(tmp_path / "runs of Zoë")
    assert "PAPERS_FIGURES" not in environment


def test_the_folder_of_a_killed_run_goes_with_the_next_and_a_living_one_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(strict.tempfile, "tempdir", str(tmp_path))
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left, ours = (tmp_path / f"{strict.WORKPLACE}{pid}_x" for pid in (dead.pid, strict.os.getpid()))
    left.mkdir(), ours.mkdir()
    with strict._workplace(tmp_path / "a.ipynb", notebook(), {}, 60) as place:
        assert not left.exists() and ours.exists()
    assert not place.exists()


def test_without_a_terminal_only_failures_are_news(capfd):
    with strict._follower(True) as follow:
        for line in ("cell 3 of 77", "[1/9] done ce seed 0 in 4 s", "[2/9] FAILED ce seed 1: no memory"):
            follow(line)
    assert capfd.readouterr().err == "[2/9] FAILED ce seed 1: no memory\n"


def test_a_closed_stderr_is_followed_in_silence(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    with strict._follower(True) as follow:
        follow("cell 3 of 77")
