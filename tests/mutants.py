"""Mutants: a small fault is put into a file, and one of the tests must notice it.

    python tests/mutants.py [--most N] FILE ...

Each mutant lives in a copy of the repository, in a forked process that has pytest and torch loaded. It meets
the tests of its file's name; if it survives, those in the same folder that import the file. It ends with 1
below 90 % killed. `make mutants` fetches cosmic-ray, whose operators these are, with two of our own.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from difflib import unified_diff
from pathlib import Path

import cosmic_ray.plugins
import parso
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Operator

ROOT = Path(__file__).parents[1]
SHARE = 0.9  # of the mutants that must die
# One replacement per operator: more of them die or survive together.
KINDS = re.compile(
    r"core/(AddNot|ReplaceTrueWithFalse|ReplaceFalseWithTrue|ReplaceAndWithOr|ReplaceOrWithAnd|NumberReplacer"
    r"|ReplaceBreakWithContinue|ReplaceContinueWithBreak|ExceptionReplacer|RemoveDecorator|ZeroIterationForLoop"
    r"|ReplaceUnaryOperator_(USub_UAdd|Delete_Not)"
    r"|ReplaceComparisonOperator_(Eq_NotEq|NotEq_Eq|Lt_LtE|LtE_Lt|Gt_GtE|GtE_Gt|Lt_Gt|Gt_Lt|Is_IsNot|IsNot_Is)"
    r"|ReplaceBinaryOperator_(Add_Sub|Sub_Add|Mul_Div|Div_Mul|FloorDiv_Mul|Mod_Mul|Pow_Mul|BitAnd_BitOr"
    r"|BitOr_BitAnd|LShift_RShift|RShift_LShift))|ours/.*"
)


class DropStatement(Operator):
    """A call whose value nobody takes, or an attribute that is set: without it."""

    def mutation_positions(self, node):
        if node.type == "simple_stmt" and not isinstance(node.children[0], parso.python.tree.String):
            statement = node.children[0]
            sets = statement.type == "expr_stmt" and "." in statement.children[0].get_code(False)
            if sets or statement.type in ("atom_expr", "power"):
                yield node.start_pos, node.end_pos

    def mutate(self, node, index):
        prefix = node.get_first_leaf().prefix
        return parso.parse(f"{prefix}pass\n").children[0]

    @classmethod
    def examples(cls):
        return ()


class DropKeyword(Operator):
    """A call without one of its keywords: its default instead of what was asked for."""

    def mutation_positions(self, node):
        for argument in self._keywords(node):
            yield argument.start_pos, argument.end_pos

    def mutate(self, node, index):
        argument = self._keywords(node)[index]
        at = node.children.index(argument)
        after = node.children[at + 1]
        # With the comma behind it, or at the end of an argument list the one before.
        gone = (argument, after) if after.get_code().strip() == "," else (argument,)
        node.children = [child for child in node.children if all(child is not part for part in gone)]
        return node

    @staticmethod
    def _keywords(node):
        if node.type not in ("arglist", "trailer"):
            return []
        children = [child for child in node.children if child.type == "argument"]
        return [child for child in children if child.children[1] == "=" and child is not node.children[-1]]

    @classmethod
    def examples(cls):
        return ()


cosmic_ray.plugins.OPERATOR_PROVIDERS["ours"] = {"DropStatement": DropStatement, "DropKeyword": DropKeyword}


def mutants(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of each mutant of `source` that is another program."""
    there = {program(source)}
    tree = get_ast(source)
    for kind in filter(KINDS.fullmatch, cosmic_ray.plugins.operator_names()):
        operator = cosmic_ray.plugins.get_operator(kind)()
        places = [place for node in ast_nodes(tree) for place in operator.mutation_positions(node)]
        for number, ((line, _), _) in enumerate(places):
            text = mutate_code(source, operator, number)
            try:
                new = program(text)
            except SyntaxError:
                continue
            if new not in there:
                there.add(new)
                yield line, text


def program(source: str) -> str:
    """What `source` does: annotations of functions are read by nobody."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.returns = None
            for argument in (*node.args.args, *node.args.kwonlyargs):
                argument.annotation = None
            for inner in ast.walk(node):
                if isinstance(inner, ast.AnnAssign):
                    inner.annotation = ast.Name("object")
    return ast.dump(tree)


def tests_of(file: Path) -> tuple[list[str], list[str]]:
    """The tests of the file's name, and the others in the same folder that import it."""
    module = ".".join(file.with_suffix("").parts)
    package, _, name = module.rpartition(".")
    imports = re.compile(rf"\b{re.escape(module)}\b|from {re.escape(package)} import [^\n]*\b{name}\b")
    named, others = [], []
    for path in sorted(Path(ROOT, "tests", *file.parent.parts[1:]).glob("test_*.py")):
        if path.stem == f"test_{name}":
            named.append(str(path.relative_to(ROOT)))
        elif imports.search(path.read_text(encoding="utf-8")):
            others.append(str(path.relative_to(ROOT)))
    return (named, others) if named else (others, [])


def passes(copy: Path, tests: list[str], limit: float) -> bool:
    """Whether `tests` pass in `copy`; a test that takes longer than `limit` seconds has noticed."""
    child = os.fork()
    if child == 0:
        os.setsid()
        os.chdir(copy)
        sys.path.insert(0, str(copy))
        os.environ |= {"PYTHONPATH": str(copy), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        nowhere = os.open(os.devnull, os.O_RDWR)
        for number in range(3):
            os.dup2(nowhere, number)
        import pytest

        few = ["-p", "pytest_timeout", "-p", "_hypothesis_pytestplugin", "-p", "no:cacheprovider"]
        os._exit(int(pytest.main(["-x", "--assert=plain", f"--rootdir={copy}", *few, *tests])) != 0)
    end, status = time.monotonic() + limit, None
    try:
        while status is None and time.monotonic() < end:
            time.sleep(0.02)
            done, code = os.waitpid(child, os.WNOHANG)
            status = code if done else None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # what hangs, and what the tests left behind
    if status is None:
        os.waitpid(child, 0)
    return status == 0


def survey(copy: Path, file: Path, most: int) -> tuple[int, int]:
    """Killed, and all, of `file`'s mutants; says each survivor."""
    source = (copy / file).read_text(encoding="utf-8")
    every = list(mutants(source))
    survivors = chosen = sorted(random.Random(0).sample(every, min(most, len(every))))
    for tests in tests_of(file):
        if not tests or not survivors:
            continue
        for _ in range(2):  # the second time tells the seconds: the first reads the disk
            began = time.monotonic()
            if not passes(copy, tests, 600):
                sys.exit(f"error: {' '.join(tests)} fail without a mutant: mend them first")
        limit = 3 * (time.monotonic() - began) + 5
        remaining = []
        for line, text in survivors:
            (copy / file).write_text(text, encoding="utf-8")
            if passes(copy, tests, limit):
                remaining.append((line, text))
        (copy / file).write_text(source, encoding="utf-8")
        survivors = remaining
    for line, text in survivors:
        difference = unified_diff(source.splitlines(), text.splitlines(), lineterm="", n=0)
        changed = "  ".join(row.strip() for row in list(difference)[3:])
        print(f"{file}:{line} survived: {changed}"[:200])
    killed = len(chosen) - len(survivors)
    print(f"{file}: {killed} of {len(chosen)} killed", flush=True)
    return killed, len(chosen)


def main() -> int:
    """Survey the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--most", type=int, default=60, help="mutants per file, drawn with a fixed seed")
    options = parser.parse_args()
    for library in ("hypothesis", "pytest", "torch", "pydantic", "PIL.Image", "rich.live", "filelock"):
        importlib.import_module(library)  # once: a forked process has it at once
    sys.dont_write_bytecode = True
    os.environ.update(PYTHONDONTWRITEBYTECODE="1", OMP_NUM_THREADS="1")
    with tempfile.TemporaryDirectory(prefix="mutants-") as name:
        copy = Path(name) / "repository"
        listed = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        for tracked in filter(None, listed.stdout.split("\0")):
            (copy / tracked).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / tracked, copy / tracked)
        totals = [survey(copy, file, options.most) for file in options.files]
    killed, total = sum(k for k, _ in totals), sum(n for _, n in totals)
    print(f"{killed} of {total} killed, {killed / max(total, 1):.0%}")
    return int(killed < SHARE * total)


if __name__ == "__main__":
    sys.exit(main())
