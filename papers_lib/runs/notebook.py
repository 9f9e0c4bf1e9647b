"""Strict papermill: a notebook runs whole, with the parameters that were asked for, or it is an error.

What papermill itself lets pass is refused here: an unknown parameter, values that change on the way
(tuples, derived defaults), parameters that it cannot see, a dead kernel, a cell that timed out or
never ran, `sys.exit(0)`, a hang. The verdict reads the executed notebook: every code cell has its
count, and none an error; papermill's own status is not trusted.
"""

from __future__ import annotations

import ast
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any

import nbformat
from rich.markup import escape

from papers_lib.errors import PapersError
from papers_lib.files import place_error, replacing, resolve
from papers_lib.runs import parent
from papers_lib.settings import NotebookSettings, repository, validate

FORBIDDEN_TAGS = ("raises-exception", "skip-execution", "injected-parameters")
PLACES = ("PAPERS_RUNS", "PAPERS_DATA", "PAPERS_FIGURES", "PAPERS_LEDGER")
WORKPLACE = "papers_lib_"
KERNELSPEC = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}


def execute(
    notebook: Path,
    output: Path,
    parameters: Mapping[str, Any],
    model: type[NotebookSettings],
    timeout: int = 3600,
    cell_timeout: int = 1200,
    log: bool = True,
) -> None:
    """Run `notebook` with `parameters` in its own folder and write it, executed, to `output`.

    `model` holds the notebook's settings: its fields are the names that the cell tagged `parameters`
    must have. `timeout` is for the whole notebook, `cell_timeout` for each cell, in seconds. `log`
    follows the cells and the sweeps in them on stderr: one live line in a terminal, elsewhere failures alone.

    Raises:
        PapersError: bad parameters (before anything starts), or a notebook that did not run whole;
            then `output` holds the half-executed notebook.
    """
    # -- what is refused before anything starts --
    notebook, output = Path(notebook).absolute(), Path(output).absolute()
    source = read(notebook)
    check(source, parameters, model, notebook.name)
    if output.is_dir():
        raise PapersError(f"--output {output} is a folder: name another file")
    if output.resolve() == notebook.resolve():
        raise PapersError(f"--output {output} is the notebook itself: name another file")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output.parent):
            pass
    except OSError as error:
        raise place_error(output.parent, error) from None

    # -- the run --
    with _workplace(notebook, source, dict(parameters), cell_timeout) as place:
        produced = place / "output.ipynb"
        try:
            answer = _run(place, timeout, log)
            if answer["type"] == "RuntimeError":
                cells = _code_cells(read(produced).cells) if produced.exists() else []
                if all(cell.execution_count is None for cell in cells):
                    answer = _run(place, timeout, log)  # the kernel did not start: a port was taken
        finally:
            if produced.exists():
                result = read(produced)
                names = {"input_path": notebook.name, "output_path": output.name}  # for the temporary ones
                result.metadata.setdefault("papermill", {}).update(names)
                _write(result, output)

    # -- the verdict --
    executed = read(output) if output.exists() else source
    if problem := _problem(executed, answer, dict(parameters), timeout, cell_timeout):
        raise PapersError(f"{notebook.name}: {problem}; see {output}")


def read(path: Path) -> Any:
    """The notebook at `path` in format 4.

    Raises:
        PapersError: it is not there, or is no notebook.
    """
    try:
        return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    except OSError as error:
        raise PapersError(f"cannot read {path} ({error.strerror}): check the path") from None
    except Exception as error:  # nbformat raises many kinds
        raise PapersError(f"{path} is no notebook ({_line(str(error))}): restore it") from None


def check(source: Any, parameters: Mapping[str, Any], model: type[NotebookSettings], name: str) -> None:
    """Refuse what papermill would let pass: parameters, the parameters cell, and tags.

    Raises:
        PapersError: the first problem.
    """
    for number, cell in enumerate(_code_cells(source.cells), 1):
        for tag in set(FORBIDDEN_TAGS) & set(cell.metadata.get("tags", [])):
            raise PapersError(f"{name}: code cell {number} has the tag {tag}: remove it")
    defaults = literal_parameters(source, name)
    if missing := set(model.model_fields) - set(defaults):
        raise PapersError(f"{name}: the parameters cell lacks {', '.join(sorted(missing))}")
    if unknown := set(defaults) - set(model.model_fields):
        names = ", ".join(sorted(unknown))
        raise PapersError(f"{name}: the parameters cell has, unknown to the settings, {names}")
    validate(model, defaults)
    validate(model, {**defaults, **parameters})


def literal_parameters(source: Any, name: str = "notebook") -> dict[str, Any]:
    """The defaults in the parameters cell.

    Raises:
        PapersError: no such cell, or not the first code cell; a default that is not a literal; a
            line that papermill cannot read.
    """
    from papermill.translators import PythonTranslator

    cells = _code_cells(source.cells)
    tagged = [i for i, cell in enumerate(cells) if "parameters" in cell.metadata.get("tags", [])]
    if tagged != [0]:
        raise PapersError(f"{name}: tag the first code cell, and no other, `parameters`")
    defaults = _assignments(cells[0].source, name)
    with _quiet("papermill"):  # it warns there of what is said here as an error
        seen = {parameter.name for parameter in PythonTranslator.inspect(cells[0])}
    if hidden := set(defaults) - seen:
        raise PapersError(
            f"{name}: papermill cannot see {', '.join(sorted(hidden))}: write one `name: type = "
            "literal` per line, without `|` or dots in the type and without a second `=`"
        )
    return defaults


def strip(path: Path) -> None:
    """Take out of the notebook at `path` what changes from run to run: timings, versions, ids."""
    notebook = read(Path(path))
    language = dict(notebook.metadata.get("language_info", {}))
    language.pop("version", None)
    notebook.metadata = {"kernelspec": KERNELSPEC, "language_info": language}
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.id = "injected-parameters"
    _write(notebook, Path(path))


def update(notebook: Path, executed: Path) -> None:
    """Write the outputs of `executed` into `notebook`, stripped, under its own parameters cell.

    Raises:
        PapersError: `executed` did not run whole, ran with other parameters than the defaults in
            `notebook`, or has other cells.
    """
    committed, run = read(notebook), read(executed)
    if problem := verdict(run):
        raise PapersError(f"{executed}: {problem}: run it again")
    defaults = literal_parameters(committed, notebook.name)
    for name, value in _injected(run, executed.name).items():
        if _json(defaults.get(name)) != _json(value):
            raise PapersError(
                f"{executed.name} ran with {name} = {value!r}, {notebook.name} says "
                f"{defaults.get(name)!r}: run it with the defaults, or change them first"
            )
    cells = [cell for cell in run.cells if "injected-parameters" not in cell.metadata.get("tags", [])]
    if [cell.source for cell in cells] != [cell.source for cell in committed.cells]:
        raise PapersError(f"{notebook.name} has changed since {executed.name} ran: run it again")
    # Without the injected cell the counts are one lower.
    pairs = zip(_code_cells(committed.cells), _code_cells(cells), strict=True)
    for number, (cell, done) in enumerate(pairs, 1):
        cell.outputs, cell.execution_count = done.outputs, number
        for result in cell.outputs:
            if result.output_type == "execute_result":
                result.execution_count = number
    committed.metadata["language_info"] = run.metadata.get("language_info", {})
    _write(committed, notebook)
    strip(notebook)


def verdict(executed: Any) -> str:
    """What kept a notebook from running whole; "" if nothing did."""
    for number, cell in enumerate(_code_cells(executed.cells), 1):
        where = f"code cell {number} (`{_line(cell.source)}`)"
        for result in cell.outputs:
            if result.output_type == "error":
                return f"{where} raised {result.ename}: {_line(result.evalue)}"
        if cell.execution_count is None:
            return f"{where} did not run to its end"
        if cell.execution_count != number:
            return f"{where} has count {cell.execution_count}: the kernel did not run it once"
    return ""


def _problem(
    executed: Any, answer: dict[str, str], parameters: dict[str, Any], timeout: int, cell_timeout: int
) -> str:
    """What kept the notebook from being an answer, the first cause first; "" if nothing did."""
    kind, said = answer["type"], _line(answer["text"])
    last = "its start"  # or the last cell that began: a kernel that dies may not have told its count
    for number, cell in enumerate(_code_cells(executed.cells), 1):
        if cell.metadata.get("papermill", {}).get("start_time"):
            last = f"code cell {number} (`{_line(cell.source)}`)"
    if kind == "Timeout":
        return f"took longer than {timeout} s, last in {last}: raise `timeout`"
    if kind == "CellTimeoutError":
        return f"{last} took longer than {cell_timeout} s: raise `cell_timeout`"
    if kind == "DeadKernelError":
        return f"the kernel died in {last}, perhaps out of memory: take a smaller profile or fewer slots"
    if fault := verdict(executed):
        if " raised " not in fault:  # else the cell itself says why
            fault += f": {said}" if kind else ", though the kernel ended well"
        return fault
    if kind:
        return f"papermill failed with {kind}: {said}"
    passed = _injected(executed, "the output")
    return "" if _json(passed) == _json(parameters) else f"papermill passed {passed}, not {parameters}"


# -- cells --


def _code_cells(cells: list[Any]) -> list[Any]:
    """Code cells; empty ones are never executed and do not count."""
    return [cell for cell in cells if cell.cell_type == "code" and cell.source.strip()]


def _injected(executed: Any, name: str) -> dict[str, Any]:
    """The parameters that papermill passed."""
    for cell in executed.cells:
        if "injected-parameters" in cell.metadata.get("tags", []):
            return _assignments(cell.source, name)
    return {}


def _assignments(source: str, name: str) -> dict[str, Any]:
    """`name: type = literal` statements as a dict."""
    try:
        statements = ast.parse(source).body
    except SyntaxError as error:
        raise PapersError(f"{name}: the parameters cell has a syntax error: {error.msg}") from None
    values: dict[str, Any] = {}
    for node in statements:
        line = _line(ast.unparse(node))
        target: ast.expr | None = None
        if isinstance(node, ast.AnnAssign):
            target = node.target
        elif isinstance(node, ast.Assign) and len(node.targets) == 1:
            target = node.targets[0]
        if not isinstance(node, ast.Assign | ast.AnnAssign) or not isinstance(target, ast.Name):
            raise PapersError(f"{name}: `{line}` in the parameters cell: write `name: type = literal`")
        if target.id in values:
            raise PapersError(f"{name}: the parameters cell sets {target.id} twice: keep one")
        try:
            values[target.id] = ast.literal_eval(node.value or ast.Name("no value"))
        except ValueError:
            raise PapersError(
                f"{name}: `{line}` in the parameters cell is no literal, so it goes stale when papermill "
                "passes another value: compute it in a later cell"
            ) from None
    return values


# -- the process --


@contextmanager
def _workplace(notebook: Path, source: Any, parameters: dict[str, Any], cell_timeout: int) -> Iterator[Path]:
    """A temporary folder with the job; papermill writes the output notebook there.

    It bears this process's number, so that the folder of one that was killed goes with the next.
    """
    import psutil  # type: ignore[import-untyped]

    for folder in Path(tempfile.gettempdir()).glob(f"{WORKPLACE}*_*"):
        number = folder.name.removeprefix(WORKPLACE).partition("_")[0]
        if number.isdecimal() and not psutil.pid_exists(int(number)):
            shutil.rmtree(folder, ignore_errors=True)  # another user's stays
    prefix = f"{WORKPLACE}{os.getpid()}_"
    with tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as name:
        place = Path(name)
        job = {
            "notebook": str(notebook),
            "output": str(place / "output.ipynb"),
            "folder": str(notebook.parent),
            "parameters": parameters,
            "cell_timeout": cell_timeout,
            "cells": len(source.cells) + bool(parameters),
            "progress": str(place / "progress.txt"),
        }
        (place / "job.json").write_text(json.dumps(job), encoding="utf-8")
        (place / "progress.txt").touch()
        yield place


def _run(place: Path, timeout: int, log: bool) -> dict[str, str]:
    """One attempt, watched; all that it started is gone afterwards."""
    import psutil

    with (place / "errors.txt").open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "papers_lib.runs.headless", str(place / "job.json")],
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            env=_environment(place),
            start_new_session=True,
        )
    family: set[Any] = {psutil.Process(process.pid)}
    end = monotonic() + timeout
    try:
        with (place / "progress.txt").open(encoding="utf-8") as lines, _follower(log) as follow:
            while process.poll() is None and monotonic() < end:
                with suppress(psutil.Error, subprocess.TimeoutExpired):
                    family |= set(psutil.Process(process.pid).children(recursive=True))
                    process.wait(timeout=0.3)
                for line in lines.read().splitlines():
                    follow(line)
        code = process.poll()
        if code is None:
            return {"type": "Timeout", "text": ""}
        try:
            answer: dict[str, str] = json.loads((place / "answer.json").read_text(encoding="utf-8"))
            return answer
        except (OSError, ValueError):
            text = (place / "errors.txt").read_text(encoding="utf-8", errors="replace").strip()
            return {"type": "Ended", "text": f"papermill's process ended with code {code}: {text[-300:]}"}
    finally:
        for member in family:
            with suppress(psutil.Error):
                member.kill()
        process.wait()


@contextmanager
def _follower(log: bool) -> Iterator[Callable[[str], None]]:
    """What becomes of a line of news: the live line of a terminal; elsewhere only a failure is passed on."""
    if not log or sys.stderr is None:
        yield lambda line: None
    elif sys.stderr.isatty():
        from rich.console import Console

        console = Console(stderr=True)
        with console.status("starting") as status:
            yield lambda line: status.update(escape(line))
    else:
        yield lambda line: print(line, file=sys.stderr, flush=True) if "FAILED" in line else None


def _environment(place: Path) -> dict[str, str]:
    """This environment's kernel and `papers_lib`; no start-up files or kernels of the user's own."""
    dropped = ("JPY_SESSION_NAME", "MPLBACKEND", "JUPYTER_PATH", "JUPYTER_RUNTIME_DIR")
    # A relative place means the folder of this process; the notebook runs in its own.
    places = {name: str(resolve(os.environ[name])) for name in PLACES if os.environ.get(name)}
    # matplotlib finds its folders and lists the fonts here: what it says meanwhile, and the temporary
    # folder that it names where the home cannot be written, would stand in the saved notebook.
    with _quiet("matplotlib"):
        import matplotlib.font_manager  # noqa: F401 - sets MPLCONFIGDIR where it must
    path = os.pathsep.join(filter(None, [str(repository()), os.environ.get("PYTHONPATH")]))
    return {
        **{name: value for name, value in os.environ.items() if name not in dropped},
        **places,
        **parent.named(),
        "PYTHONPATH": path,
        "JUPYTER_DATA_DIR": str(place / "jupyter"),
        "IPYTHONDIR": str(place / "ipython"),
        "PAPERS_PROGRESS": str(place / "progress.txt"),
    }


def _write(notebook: Any, path: Path) -> None:
    with replacing(path) as temporary:
        text = nbformat.writes(notebook)  # type: ignore[no-untyped-call]
        temporary.write_text(text + "\n", encoding="utf-8")


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _line(text: str) -> str:
    """The first line that says something, shortened."""
    line = (text.strip().splitlines() or [""])[0].strip()
    return line if len(line) <= 100 else line[:97] + "..."
