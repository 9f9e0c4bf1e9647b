"""The code fingerprint: a hash of the code that can change a run's result, and of nothing else.

It covers a module and what that imports inside `papers_lib`, transitively, as syntax trees without
docstrings; comments, layout and the Python version change nothing.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from functools import lru_cache
from pathlib import Path

PACKAGE = "papers_lib"


def code_fingerprint(module: str) -> str:
    """SHA-256 over `files(module)`: names and trees, in the order of the names."""
    return hashlib.sha256("\n".join(f"{n} {h}" for n, h in files(module).items()).encode()).hexdigest()


def files(module: str) -> dict[str, str]:
    """Hash of each module that `module` reaches inside the package, by name."""
    found: dict[str, str] = {}
    queue = [module]
    while queue:
        name = queue.pop()
        path = _path(name)
        if name in found or path is None:
            continue
        found[name], imports = _read(path, path.stat().st_mtime_ns)
        queue.extend(imports)
    return dict(sorted(found.items()))


def _path(name: str) -> Path | None:
    if name.split(".")[0] != PACKAGE:
        return None
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:  # `from module import function`: function is not a module
        return None
    return Path(spec.origin) if spec and spec.origin else None


@lru_cache(maxsize=None)
def _read(path: Path, _mtime: int) -> tuple[str, tuple[str, ...]]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return hashlib.sha256(_dump(tree).encode()).hexdigest(), tuple(_imports(tree))


def _imports(tree: ast.AST) -> list[str]:
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return [name for name in names if name.split(".")[0] == PACKAGE]


def _dump(node: object) -> str:
    """`ast.dump` that leaves out empty fields, which differ between Python versions, and docstrings."""
    if isinstance(node, list):
        return "[" + ",".join(map(_dump, node)) + "]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = dict(ast.iter_fields(node))
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
        fields["body"] = node.body[1:]
    kept = (f"{name}={_dump(value)}" for name, value in fields.items() if value not in (None, []))
    return f"{type(node).__name__}({','.join(kept)})"
