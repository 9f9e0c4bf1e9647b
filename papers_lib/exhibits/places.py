"""Where tables, figures and new rows are written: beside the committed ones only if that is asked for."""

from __future__ import annotations

import os
from pathlib import Path

from papers_lib.files import resolve
from papers_lib.settings import figures_root, repository


def written() -> Path:
    """`$PAPERS_FIGURES`, else `build/figures/` of the repository, which git ignores."""
    return resolve(os.environ.get("PAPERS_FIGURES") or repository() / "build" / "figures")


def write_committed() -> None:
    """From here on what is written goes to `$PAPERS_FIGURES`, else to `figures/` of the repository."""
    os.environ["PAPERS_FIGURES"] = str(figures_root())
