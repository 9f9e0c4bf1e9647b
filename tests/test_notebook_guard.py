"""What every committed notebook keeps to; and that the guard sees each breach of it."""

import ast
import copy
import json
import re

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from papers_lib import papers
from papers_lib.errors import PapersError
from papers_lib.runs.notebook import literal_parameters, read
from papers_lib.settings import repository

NOTEBOOKS = sorted((repository() / "notebooks").glob("*.ipynb"))
HOST = re.compile(r"(?<![\w.])/(root|home|work|tmp|Users|mnt|var)/")
INDEX = "index"  # the way in: it lists the chapters
# a parameter takes a line: the longest list of them sets the lines of a cell
MAX_BYTES, MAX_CELL_LINES, MAX_FUNCTION_LINES, MIN_WORDS = 400 * 1024, 26, 10, 40


def problems(path):
    """One line for each breach in the notebook at `path`."""
    raw = json.loads(path.read_text(encoding="utf-8"))
    cells = [cell for cell in raw["cells"] if cell["cell_type"] == "code"]
    found = [*_file(path, raw), *_parameters(path), *_prose(raw["cells"], len(cells))]
    for number, cell in enumerate(cells, 1):
        found += [f"code cell {number}: {text}" for text in _outputs(cell, number)]
        found += [f"code cell {number}: {text}" for text in _source("".join(cell["source"]))]
    return found


def _file(path, raw):
    if path.stat().st_size > MAX_BYTES:
        yield f"{path.stat().st_size / 1024:.0f} KB: {MAX_BYTES // 1024} at most"
    if raw["metadata"].get("kernelspec", {}).get("name") != "python3":
        yield "kernelspec is not python3"
    for name in ("widgets", "papermill"):
        if name in raw["metadata"]:
            yield f"metadata holds {name}"
    ids = [cell.get("id") for cell in raw["cells"]]
    if None in ids or len(set(ids)) != len(ids):
        yield "cell ids are missing or double"
    for cell in raw["cells"]:
        if HOST.search("".join(cell["source"])):
            yield f"absolute path in the cell `{''.join(cell['source'])[:40]}`"
        if {"papermill", "execution"} & set(cell["metadata"]):
            yield "cell metadata holds timings: strip it"


def _parameters(path):
    if path.stem == INDEX:
        return  # it opens no paper
    try:
        literal_parameters(read(path), path.name)
    except PapersError as error:
        yield str(error)


def _prose(cells, count):
    words = sum(len("".join(c["source"]).split()) for c in cells if c["cell_type"] == "markdown")
    if words < MIN_WORDS * count:
        yield f"{words / max(count, 1):.0f} words of prose per code cell: {MIN_WORDS} at least"


def _outputs(cell, number):
    if cell["execution_count"] != number:
        yield f"count {cell['execution_count']}"
    for output in cell["outputs"]:
        if output["output_type"] == "error":
            yield f"error {output['ename']}"
        data = {"text/plain": output.get("text", ""), **output.get("data", {})}
        if any("widget" in kind for kind in data):
            yield "widget"
        text = json.dumps({k: v for k, v in data.items() if not k.startswith("image/")})
        text = re.sub(r"base64,[0-9A-Za-z+/=]+", "", text)  # a picture in HTML, which has alt text
        if re.search(r"\b0x[0-9a-fA-F]{4,}", text):
            yield "memory address in an output"
        if HOST.search(text):
            yield "absolute path in an output"


def _source(source):
    if not source.strip():
        yield "empty"
    if len(source.splitlines()) > MAX_CELL_LINES:
        yield f"{len(source.splitlines())} lines: {MAX_CELL_LINES} at most"
    if re.search(r"^\s*[!%]\s*(pip|conda)\b|^\s*!", source, re.MULTILINE):
        yield "shell command"
        return
    for node in ast.walk(ast.parse(re.sub(r"^\s*%.*$", "", source, flags=re.MULTILINE))):
        if isinstance(node, ast.ClassDef):
            yield f"class {node.name}"
        if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno >= MAX_FUNCTION_LINES:
            yield f"function {node.name} is longer than {MAX_FUNCTION_LINES} lines"


def test_committed_notebooks_keep_to_the_rules():
    assert NOTEBOOKS
    assert {path.name: problems(path) for path in NOTEBOOKS} == {path.name: [] for path in NOTEBOOKS}


def test_the_index_leads_to_every_chapter_and_its_pictures_and_links_are_there():
    text = "\n".join(cell.source for cell in read(NOTEBOOKS[0].with_name(f"{INDEX}.ipynb")).cells)
    links = set(re.findall(r"\]\((.+?)\)", text))
    assert {f"{name}.ipynb" for name in papers.PAPERS} <= links
    for link in links:  # executed copies are there after `run` only
        assert link.startswith("../runs/") or (NOTEBOOKS[0].parent / link).exists(), link
    assert len(re.findall(r"!\[.{40,}?\]\(", text)) == len(papers.PAPERS)  # each with an alternative text


@pytest.mark.parametrize("path", [p for p in NOTEBOOKS if p.stem != INDEX], ids=lambda path: path.stem)
def test_parameters_are_the_settings(path):
    names = literal_parameters(read(path), path.name)
    assert list(names) == list(papers.get(path.stem).settings.model_fields)


RESULT = new_output(
    "execute_result", {"text/plain": "1", "text/html": "base64,a/tmp/b0x12345"}, execution_count=2
)
GOOD = new_notebook(
    cells=[
        new_markdown_cell("word " * 80, id="a"),
        new_code_cell("seed: int = 0", id="b", metadata={"tags": ["parameters"]}, execution_count=1),
        new_code_cell("def f(x):\n    return x\nf(1)", id="c", execution_count=2, outputs=[RESULT]),
    ],
    metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
)


def saved(tmp_path, change=lambda nb: None):
    nb = copy.deepcopy(GOOD)
    change(nb)
    path = tmp_path / "nb.ipynb"
    path.write_text(json.dumps(nb))
    return path


def source(text):
    return lambda nb: nb["cells"][2].update(source=text)


def output(**changed):
    return lambda nb: nb["cells"][2]["outputs"][0].update(changed)


BREACHES = {
    "count": lambda nb: nb["cells"][2].update(execution_count=3),
    "count None": lambda nb: nb["cells"][2].update(execution_count=None),
    "error": lambda nb: nb["cells"][2].update(
        outputs=[{"output_type": "error", "ename": "E", "evalue": "", "traceback": []}]
    ),
    "memory address": output(data={"text/plain": "<f at 0x7f3a12c0>"}),
    "absolute path in an output": output(data={"text/html": ["<a href='/work/x'>"]}),
    "absolute path in the cell": source("open('/home/me/x')"),
    "widget": output(data={"application/vnd.jupyter.widget-view+json": {}}),
    "metadata holds widgets": lambda nb: nb["metadata"].update(widgets={}),
    "timings": lambda nb: nb["cells"][0]["metadata"].update(papermill={}),
    "KB": source("# " + "x" * MAX_BYTES),
    "tag the first code cell": lambda nb: nb["cells"][1].update(metadata={}),
    "no literal": lambda nb: nb["cells"][1].update(source="seed = int(3)"),
    "kernelspec": lambda nb: nb["metadata"]["kernelspec"].update(name="conda-env"),
    "ids": lambda nb: nb["cells"][0].update(id="b"),
    "class A": source("class A:\n    pass"),
    "shell": source("!pip install x"),
    "27 lines": source("x = 1\n" * 27),
    "longer than 10": source("def f():\n" + "    x = 1\n" * 10),
    "words of prose": lambda nb: nb["cells"][0].update(source="few words"),
    "empty": source(" "),
}


def test_a_good_notebook_passes(tmp_path):
    assert problems(saved(tmp_path)) == []


@pytest.mark.parametrize("named", BREACHES)
def test_each_breach_is_seen(tmp_path, named):
    found = problems(saved(tmp_path, BREACHES[named]))
    assert any(named in one for one in found), found
