"""The project about itself: floors, versions, and nothing of one machine in a file."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
WINGS = ("sampler_study", "quadruplet_cars196", "median_triplet", "nar")
# Modules that a worker or torchrun calls by name, and that the names of their runs hold.
DOORS = ("papers_lib.nar.imagenet.training",)
ABOVE = ("papers_lib.papers", "papers_lib.cli", "papers_lib.__main__")


def modules() -> list[tuple[str, Path]]:
    found = []
    for package in ("papers_lib", "data_prep"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found.append((".".join(p for p in parts if p != "__init__"), path))
    return found


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def wing(name: str) -> str:
    parts = name.split(".")
    return parts[1] if parts[0] == "papers_lib" and len(parts) > 1 and parts[1] in WINGS else ""


def reached(name: str) -> set[str]:
    files = dict(modules())
    seen: set[str] = set()
    queue = [name]
    while queue:
        one = queue.pop()
        if one in files and one not in seen:
            seen.add(one)
            queue.extend(imports(files[one]))
    return seen


def test_no_wing_imports_another_and_the_ground_floor_imports_none():
    for name, path in modules():
        if name in ABOVE:
            continue
        for target in imports(path):
            assert wing(target) in ("", wing(name)), f"{name} imports {target}"
            assert target not in ABOVE, f"{name} imports {target}"


def test_a_method_knows_nothing_of_studies():
    for name, path in modules():
        if not wing(name) or ".study" in name or name in DOORS:
            continue
        above = (
            "papers_lib.exhibits",
            "papers_lib.runs",
            "papers_lib.study",
            f"papers_lib.{wing(name)}.study",
        )
        for target in imports(path):
            assert not target.startswith(above), f"{name} imports {target}"


def test_the_library_never_imports_data_prep():
    for name, path in modules():
        if name.startswith("papers_lib"):
            assert not any(target.startswith("data_prep") for target in imports(path)), name


@pytest.mark.parametrize("name", [w for w in WINGS if (ROOT / "papers_lib" / w).is_dir()])
def test_training_reaches_neither_exhibits_nor_runs_nor_cli(name):
    found = reached(f"papers_lib.{name}.training")
    assert f"papers_lib.{name}.training" in found
    kept_out = ("papers_lib.exhibits", "papers_lib.runs", "papers_lib.cli", "papers_lib.papers")
    assert not [one for one in found if one.startswith(kept_out)]


def requirements() -> dict[str, Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    listed = [*project["dependencies"], *chain(*extras.values())]
    return {re.sub(r"[-_.]+", "-", r.name).lower(): r for r in map(Requirement, listed)}


def locked() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for file in ("requirements.lock", "requirements-torch.txt"):
        for line in (ROOT / file).read_text().splitlines():
            if line.startswith(("#", "    --hash=sha256:")):
                continue
            name, _, rest = line.rstrip("\\").partition("==")
            assert rest, f"not an exact version: {line}"
            found.setdefault(name.lower(), set()).add(rest.split(";")[0].strip())
    return found


def test_the_lock_has_an_exact_version_that_fits_each_requirement():
    versions = locked()
    for name, requirement in requirements().items():
        assert name in versions, f"{name} is not locked"
        assert all(version in requirement.specifier for version in versions[name]), name


def test_torch_and_torchvision_are_the_pair_that_imports_together():
    assert (locked()["torch"], locked()["torchvision"]) == ({"2.15.0"}, {"0.29.2"})


def test_every_locked_version_has_hashes_and_torch_decides_what_torch_pins():
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        assert line.startswith("    --hash=sha256:") or after.startswith("    --hash=sha256:"), line
    assert not [line for line in lines if line.startswith(("torch==", "nvidia", "cuda", "triton"))]


def test_environment_yml_asks_for_what_pyproject_asks_for():
    import yaml

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert found[0] == f"python{project['requires-python']}"
    asked = [
        re.sub(r"^torch(?=>)", "pytorch", name) for name in project["dependencies"]
    ]  # conda-forge's name
    assert [one for one in asked if one not in found] == []


def tracked() -> list[Path]:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    return [ROOT / name for name in done.stdout.decode().split("\0") if name]


def test_no_file_is_large_or_names_a_machine():
    place = re.compile(rb"(?:^|[\"' =(])/(?:root|home|work|opt|tmp)/[A-Za-z0-9._-]+|index-url|find-links")
    for path in tracked():
        if not path.is_file() or path == Path(__file__):
            continue
        size = path.stat().st_size
        limit = {".ipynb": 400, ".png": 120, ".jsonl": 6000, ".npz": 4000}.get(
            path.suffix, 500
        )  # .jsonl: 6 KB per row
        assert size <= limit * 1024, f"{path.name}: {size // 1024} KB"
        if path.suffix in (".py", ".toml", ".lock", ".yml", ".md", ".ipynb", ".jsonl", ""):
            found = place.search(path.read_bytes())
            assert found is None or "tests" in path.parts, f"{path.name}: {found}"


def test_the_command_line_answers_without_loading_torch():
    code = "import sys; from papers_lib.cli import main; main(['list']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
