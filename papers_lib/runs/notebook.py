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
from functools import cache
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
PLACES = (
    "PAPERS_RUNS",
    "PAPERS_DATA",
    "PAPERS_FIGURES",
    "PAPERS_LEDGER",
)  # a notebook runs in its own folder
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
    notebook, output = Path(notebook).absolute(), Path(output).absolute()
    source = read(notebook)
    check(source, parameters, model, notebook.name)
    if output.is_dir() or output.resolve() == notebook.resolve():
        raise PapersError(f"--output {output} is {'a folder' if output.is_dir() else 'the notebook itself'}: "
                          "name another file")  # fmt: skip
    _probe(output.parent)
    with _workplace(notebook, source, dict(parameters), cell_timeout) as place:
        try:
            answer = _run(place, timeout, log)
            if answer["type"] == "RuntimeError" and _count(place) == 0:
                answer = _run(place, timeout, log)  # the kernel did not start: a port was taken
        finally:
            _keep(place / "output.ipynb", notebook, output)
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
    for number, cell in enumerate(_code(source), 1):
        for tag in set(FORBIDDEN_TAGS) & set(cell.metadata.get("tags", [])):
            raise PapersError(f"{name}: code cell {number} has the tag {tag}: remove it")
    defaults = literal_parameters(source, name)
    for wrong, text in (
        (set(model.model_fields) - set(defaults), "lacks"),
        (set(defaults) - set(model.model_fields), "has, unknown to the settings,"),
    ):
        if wrong:
            raise PapersError(f"{name}: the parameters cell {text} {', '.join(sorted(wrong))}")
    validate(model, defaults)
    validate(model, {**defaults, **parameters})


def literal_parameters(source: Any, name: str = "notebook") -> dict[str, Any]:
    """The defaults in the parameters cell.

    Raises:
        PapersError: no such cell, or not the first code cell; a default that is not a literal; a
            line that papermill cannot read.
    """
    from papermill.translators import PythonTranslator

    cells = _code(source)
    tagged = [i for i, cell in enumerate(cells) if "parameters" in cell.metadata.get("tags", [])]
    if tagged != [0]:
        raise PapersError(f"{name}: tag the first code cell, and no other, `parameters`")
    defaults = _assignments(cells[0].source, name)
    with _quiet():
        seen = {parameter.name for parameter in PythonTranslator.inspect(cells[0])}
    if hidden := set(defaults) - seen:
        raise PapersError(
            f"{name}: papermill cannot see {', '.join(sorted(hidden))}: write one `name: type = "
            "literal` a line, without `|` or dots in the type and without a second `=`"
        )
    return defaults


def strip(path: Path) -> None:
    """Take out of the notebook at `path` what changes from run to run: timings, versions, ids."""
    notebook = read(Path(path))
    notebook.metadata = {
        "kernelspec": KERNELSPEC,
        "language_info": {
            k: v for k, v in notebook.metadata.get("language_info", {}).items() if k != "version"
        },
    }
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
    ours, theirs = read(notebook), read(executed)
    if problem := verdict(theirs):
        raise PapersError(f"{executed}: {problem}: run it again")
    defaults = literal_parameters(ours, notebook.name)
    cells = []
    for cell in theirs.cells:
        if "injected-parameters" not in cell.metadata.get("tags", []):
            cells.append(cell)
            continue
        for name, value in _assignments(cell.source, executed.name).items():
            if _json(defaults.get(name)) != _json(value):
                raise PapersError(
                    f"{executed.name} ran with {name} = {value!r}, {notebook.name} says "
                    f"{defaults.get(name)!r}: run it with the defaults, or change them first"
                )
    if [cell.source for cell in cells] != [cell.source for cell in ours.cells]:
        raise PapersError(f"{notebook.name} has changed since {executed.name} ran: run it again")
    for number, (cell, done) in enumerate(zip(_code(ours), _of_code(cells), strict=True), 1):
        cell.outputs, cell.execution_count = done.outputs, number
        for result in cell.outputs:
            if result.output_type == "execute_result":
                result.execution_count = number
    ours.metadata["language_info"] = theirs.metadata.get("language_info", {})
    _write(ours, notebook)
    strip(notebook)


def verdict(executed: Any) -> str:
    """What kept a notebook from running whole; "" if nothing did."""
    for number, cell in enumerate(_code(executed), 1):
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
    kind = answer["type"]
    stops = {
        "Timeout": f"took longer than {timeout} s, last in {_stopped(executed)}: raise `timeout`",
        "CellTimeoutError": f"{_stopped(executed)} took longer than {cell_timeout} s: raise `cell_timeout`",
        "DeadKernelError": f"the kernel died in {_stopped(executed)}, perhaps out of memory: "
        "take a smaller profile or fewer slots",
    }
    if kind in stops:
        return stops[kind]
    if found := verdict(executed):
        silent = f": {_line(answer['text'])}" if kind else ", though the kernel ended well"
        return found if " raised " in found else found + silent
    if kind:
        return f"papermill failed with {kind}: {_line(answer['text'])}"
    injected = [c for c in executed.cells if "injected-parameters" in c.metadata.get("tags", [])]
    got = _assignments(injected[0].source, "the output") if injected else {}
    return "" if _json(got) == _json(parameters) else f"papermill passed {got}, not {parameters}"


def _stopped(executed: Any) -> str:
    """The last cell that began; a kernel that dies may or may not have told its count."""
    begun = [
        (number, cell)
        for number, cell in enumerate(_code(executed), 1)
        if cell.metadata.get("papermill", {}).get("start_time")
    ]
    return f"code cell {begun[-1][0]} (`{_line(begun[-1][1].source)}`)" if begun else "its start"


def _code(notebook: Any) -> list[Any]:
    return _of_code(notebook.cells)


def _of_code(cells: list[Any]) -> list[Any]:
    """Code cells; empty ones are never executed and do not count."""
    return [cell for cell in cells if cell.cell_type == "code" and cell.source.strip()]


def _assignments(source: str, name: str) -> dict[str, Any]:
    """`name: type = literal` statements as a dict."""
    try:
        statements = ast.parse(source).body
    except SyntaxError as error:
        raise PapersError(f"{name}: the parameters cell has a syntax error: {error.msg}") from None
    values: dict[str, Any] = {}
    for node in statements:
        target = (
            node.targets[0] if isinstance(node, ast.Assign) and len(node.targets) == 1
            else node.target if isinstance(node, ast.AnnAssign) else None
        )  # fmt: skip
        line = _line(ast.unparse(node))
        if not isinstance(node, ast.Assign | ast.AnnAssign) or not isinstance(target, ast.Name):
            raise PapersError(f"{name}: `{line}` in the parameters cell: write `name: type = literal`")
        if target.id in values:
            raise PapersError(f"{name}: the parameters cell sets {target.id} twice: keep one")
        try:
            values[target.id] = ast.literal_eval(node.value or ast.Name("nothing"))
        except ValueError:
            raise PapersError(
                f"{name}: `{line}` in the parameters cell is no literal, so it goes stale when papermill "
                "passes another value: compute it in a later cell"
            ) from None
    return values


@contextmanager
def _workplace(notebook: Path, source: Any, parameters: dict[str, Any], cell_timeout: int) -> Iterator[Path]:
    """A temporary folder with the job; papermill writes the output notebook there.

    It bears this process's number, so that the folder of one that was killed goes with the next.
    """
    import psutil  # type: ignore[import-untyped]

    for left in Path(tempfile.gettempdir()).glob(f"{WORKPLACE}*_*"):
        number = left.name.removeprefix(WORKPLACE).partition("_")[0]
        if number.isdecimal() and not psutil.pid_exists(int(number)):
            shutil.rmtree(left, ignore_errors=True)  # another user's stays
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
            stdin=subprocess.DEVNULL, stdout=errors, stderr=errors, env=_environment(place),
            start_new_session=True,
        )  # fmt: skip
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
        return _answer(place, process.poll())
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


def _answer(place: Path, code: int | None) -> dict[str, str]:
    if code is None:
        return {"type": "Timeout", "text": ""}
    try:
        answer: dict[str, str] = json.loads((place / "answer.json").read_text(encoding="utf-8"))
        return answer
    except (OSError, ValueError):
        said = (place / "errors.txt").read_text(encoding="utf-8", errors="replace").strip()
        return {"type": "Ended", "text": f"papermill's process ended with code {code}: {said[-300:]}"}


def _environment(place: Path) -> dict[str, str]:
    """This environment's kernel and `papers_lib`; no start-up files or kernels of the user's own."""
    dropped = ("JPY_SESSION_NAME", "MPLBACKEND", "JUPYTER_PATH", "JUPYTER_RUNTIME_DIR")
    places = {name: str(resolve(os.environ[name])) for name in PLACES if os.environ.get(name)}
    _fonts()
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


@cache
def _fonts() -> None:
    """Let matplotlib find its folders and list the fonts here: what it says meanwhile, and the temporary
    folder that it names where the home cannot be written, would stand in the saved notebook.
    """
    logger = logging.getLogger("matplotlib")
    before, logger.disabled = logger.disabled, True
    try:
        import matplotlib.font_manager  # noqa: F401 - sets MPLCONFIGDIR where it must
    finally:
        logger.disabled = before


def _count(place: Path) -> int:
    """How many code cells of the output have run."""
    path = place / "output.ipynb"
    return sum(cell.execution_count is not None for cell in _code(read(path))) if path.exists() else 0


def _keep(produced: Path, notebook: Path, output: Path) -> None:
    """Copy what papermill wrote to `output`, whole or not at all."""
    if not produced.exists():
        return
    result = read(produced)
    result.metadata.setdefault("papermill", {}).update(input_path=notebook.name, output_path=output.name)
    _write(result, output)


def _write(notebook: Any, path: Path) -> None:
    with replacing(path) as temporary:
        text = nbformat.writes(notebook)  # type: ignore[no-untyped-call]
        temporary.write_text(text + "\n", encoding="utf-8")


def _probe(folder: Path) -> None:
    """Make the output folder, and see before the run that it can be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise place_error(folder, error) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """papermill's inspection warns on its own logger of what is said here as an error."""
    logger = logging.getLogger("papermill")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _line(text: str) -> str:
    line = next((one.strip() for one in text.splitlines() if one.strip()), "")
    return line if len(line) <= 100 else line[:97] + "..."
