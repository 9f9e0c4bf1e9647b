"""The code fingerprint: a hash of the code that can change a run's result, and of nothing else.

It covers a module and what that imports inside `papers_lib` and its own package, transitively, as syntax
trees without docstrings; comments, layout and the Python version change nothing. It is read from the files
alone: nothing is imported to be hashed.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path

PACKAGE = "papers_lib"
ROOT = Path(__file__).resolve().parents[1]


def code_fingerprint(module: str, without: frozenset[str] = frozenset()) -> str:
    """SHA-256 over `files(module, without)`: names and trees, in the order of the names."""
    lines = [f"{name} {tree}" for name, tree in files(module, without).items()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def files(module: str, without: frozenset[str] = frozenset()) -> dict[str, str]:
    """Hash of each module that `module` reaches inside the package, by name.

    The modules `without` are those of which a run uses nothing, such as readers of other data sets. They
    count where one of their own package imports them: a reader may take what it returns from another.
    """
    hashes: dict[str, str] = {}
    roots = _root_of(module.partition(".")[0]) | {PACKAGE: ROOT}
    queue, seen = [module], {module}
    while queue:
        name = queue.pop()
        path = _path(name, roots)
        if path is None:
            continue
        hashes[name], imports = _read(name, path, path.stat().st_mtime_ns)
        beside = {each.rpartition(".")[0] for each in without} == {name.rpartition(".")[0]}
        new = set(imports) - seen - (frozenset() if beside else without)
        queue.extend(new)
        seen |= new
    return dict(sorted(hashes.items()))


@cache  # one git command per file
def changed_since(commit: str, module: str, without: frozenset[str] = frozenset()) -> tuple[str, ...]:
    """The files that `module` reaches whose code differs from what `commit` had; none if it is unknown."""
    root = ROOT.parent
    changed = []
    for name, now in files(module, without).items():
        path = _path(name, _root_of(name.partition(".")[0]) | {PACKAGE: ROOT})
        if path is None or not path.is_relative_to(root):
            continue  # a wing from elsewhere
        relative = path.relative_to(root).as_posix()
        command = ["git", "show", f"{commit}:{relative}"]
        then = subprocess.run(command, cwd=root, capture_output=True, check=False)
        if then.returncode == 0 and _hash(then.stdout.decode()) != now:
            changed.append(relative)
    return tuple(changed)


def _root_of(package: str) -> dict[str, Path]:
    """The folder of a wing's package that is not in `papers_lib`, by its name."""
    spec = importlib.util.find_spec(package) if package else None
    folders = list((spec and spec.submodule_search_locations) or ())
    return {package: Path(folders[-1])} if folders else {}


def _path(name: str, roots: Mapping[str, Path]) -> Path | None:
    """The file of a module of these packages; None for what is no module, such as a function."""
    package, *parts = name.split(".")
    if package not in roots:
        return None
    base = roots[package].joinpath(*parts)
    candidates = (base / "__init__.py", base.with_name(f"{base.name}.py"))
    return next((path for path in candidates if path.is_file()), None)


@cache
def _read(name: str, path: Path, _mtime: int) -> tuple[str, tuple[str, ...]]:
    text = path.read_text(encoding="utf-8")
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    return _hash(text), tuple(_imports(ast.parse(text), package))


def _hash(text: str) -> str:
    return hashlib.sha256(_dump(ast.parse(text)).encode()).hexdigest()


def _imports(tree: ast.AST, package: str) -> list[str]:
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            above = parts[: len(parts) + 1 - node.level] if node.level else []  # `from ..x`: level 2
            base = ".".join([*above, *filter(None, [node.module])])
            # What is imported may be a module as well as a name in one.
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return names


def _dump(node: object) -> str:
    """`ast.dump` without docstrings, and without what differs between Python versions.

    Those are empty fields, the pieces in which an f-string's text comes, and how text is quoted.
    """
    if isinstance(node, list):
        return "[" + ",".join(_dump(item) for item in node if not _is_docstring(item)) + "]"
    if not isinstance(node, ast.AST):
        return ascii(node)
    fields = dict(ast.iter_fields(node))
    if isinstance(node, ast.JoinedStr):
        fields["values"] = _joined(node.values)
    kept = (f"{name}={_dump(value)}" for name, value in fields.items() if value not in (None, []))
    return f"{type(node).__name__}({','.join(kept)})"


def _is_docstring(node: object) -> bool:
    """A statement that is a text and nothing else."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _joined(values: list[ast.expr]) -> list[object]:
    """The parts of an f-string, neighbouring texts in one."""
    parts: list[object] = []
    for value in values:
        text = value.value if isinstance(value, ast.Constant) else value
        if isinstance(text, str) and parts and isinstance(parts[-1], str):
            parts[-1] += text
        elif text != "":
            parts.append(text)
    return parts
