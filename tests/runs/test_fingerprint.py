"""What changes a code fingerprint, and what must not."""

import ast
import hashlib
import os
import subprocess
import sys

import pytest

from papers_lib.datasets import known
from papers_lib.runs import fingerprint
from papers_lib.runs.fingerprint import code_fingerprint, files

TRAINING = '''"""Doc."""
from papers_lib.wing import helper
from papers_lib.wing.other import double
from . import sibling
from ..ground import floor
import numpy as np


def train(x, *, rate=0.5):
    """What it does."""
    return f"{x} of {rate:.2f}", double(x), None, False, 0
'''


@pytest.fixture
def package(tmp_path, monkeypatch):
    monkeypatch.setattr(fingerprint, "ROOT", tmp_path)
    wing = tmp_path / "wing"
    wing.mkdir()
    for name in ("__init__", "helper", "sibling", "unused"):
        (wing / f"{name}.py").write_text(f"name = {name!r}\n")
    (wing / "other.py").write_text("def double(x):\n    return 2 * x\n")
    (tmp_path / "ground.py").write_text("floor = 1\n")
    (wing / "training.py").write_text(TRAINING)
    return wing


def write(path, text):
    """Write so that the modification time moves even on a coarse clock."""
    before = path.stat().st_mtime_ns
    path.write_text(text)
    os.utime(path, ns=(before + 10**9, before + 10**9))


def test_reaches_imports_absolute_and_relative_and_nothing_else(package):
    names = ("ground", "wing", "wing.helper", "wing.other", "wing.sibling", "wing.training")
    assert list(files("papers_lib.wing.training")) == [f"papers_lib.{name}" for name in names]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""Doc."""', '"""Another."""'),
        ('    """What it does."""\n', ""),
        ("import numpy as np\n", "import numpy as np  # a comment\n\n\n# more\n"),
        ("rate=0.5):", "rate=0.5,\n):"),
        ('f"{x} of {rate:.2f}"', "(f\"{x} \" f'of {rate:.2f}')"),
    ],
)
def test_comments_docstrings_and_layout_change_nothing(package, old, new):
    before = code_fingerprint("papers_lib.wing.training")
    assert old in TRAINING
    write(package / "training.py", TRAINING.replace(old, new))
    assert code_fingerprint("papers_lib.wing.training") == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("rate=0.5", "rate=0.25"),
        ("{rate:.2f}", "{rate:.3f}"),
        ("{x} of", "{x} in"),
        ("False", "None"),
        ("False", "0"),
        ("0\n", "0.0\n"),
        ("*, rate", "rate"),
    ],
)
def test_code_changes_it(package, old, new):
    before = code_fingerprint("papers_lib.wing.training")
    assert old in TRAINING
    write(package / "training.py", TRAINING.replace(old, new))
    assert code_fingerprint("papers_lib.wing.training") != before


def test_a_change_two_imports_away_counts_and_an_unused_file_does_not(package):
    before = code_fingerprint("papers_lib.wing.training")
    write(package / "unused.py", "name = 1\n")
    assert code_fingerprint("papers_lib.wing.training") == before
    write(package.parent / "ground.py", "floor = 2\n")
    assert code_fingerprint("papers_lib.wing.training") != before


def test_nothing_is_imported_to_be_hashed():
    """The command line answers at once: no torch for the sake of a key."""
    code = "import sys; from papers_lib.runs.fingerprint import files; files('papers_lib.compute')"
    subprocess.run([sys.executable, "-c", f"{code}; sys.exit('torch' in sys.modules)"], check=True)


def test_python_versions_agree_by_construction():
    """A frozen hash: a Python that reads these trees otherwise fails here."""
    odd = "x = f'{x!r:>{w}}' f'' 'é\U0001fae8'\nclass A:\n    async def f(self, /): ...\n"
    text = fingerprint._dump(ast.parse(TRAINING + odd))
    assert text.isascii() and "type_params" not in text
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "2d3f885b97a1148c"


def test_readers_of_other_data_sets_are_no_part_of_a_runs_code():
    """What another data set's reader says changes nothing; a run's own reader, and what it takes, may."""

    def reached(module, *names):
        return {name.rpartition(".")[2] for name in files(module, known.not_read(names))}

    cars = "papers_lib.quadruplet_cars196.training"
    shipped, own = reached(cars, "cars196_half_features"), reached(cars, "folder")
    assert "features" in shipped and not {"folder", "cars196", "cars196_layouts", "reid"} & shipped
    assert {"folder", "cars196", "cars196_layouts", "reid"} <= own and "features" not in own
    assert reached(cars, "cars196_half_features", "folder") >= shipped | own
    # of a data set that is not of the house nothing is known
    assert reached(cars, "their_own", "folder") == {name.rpartition(".")[2] for name in files(cars)}
