"""A sampler under the reader's hands: widgets in a live notebook, one saved picture elsewhere."""

from __future__ import annotations

import os
from typing import Any

from papers_lib.sampler_study.study.drawings import one_sampler
from papers_lib.sampler_study.study.tables import GRID, SAMPLERS


def explore(sampler: str = "triplet_proxy", k: int = 4, p: int = 2, seed: int = 0) -> Any:
    """Figure 1 for a sampler, its K or N, and P classes per batch, so that a batch has P · K images.

    In a live notebook these are controls, and the picture follows them; where nobody can move one, as in a
    notebook that is executed headlessly, the picture of the values given is returned.

    Raises:
        PapersError: an unknown sampler, or no batch that can be made.
    """
    if not os.environ.get("JPY_SESSION_NAME"):  # set by JupyterLab for the kernel of an open notebook
        return one_sampler(sampler, k, p * k, seed)
    import ipywidgets
    from IPython.display import display

    def draw(sampler: str, k: int, p: int, seed: int) -> None:
        display(one_sampler(sampler, k, p * k, seed))  # type: ignore[no-untyped-call]

    names = [("Random", "random"), *((label, name) for name, (label, _, _) in SAMPLERS.items())]
    return ipywidgets.interactive(
        draw,
        sampler=ipywidgets.Dropdown(options=names, value=sampler, description="sampler"),
        k=ipywidgets.SelectionSlider(options=GRID[:5], value=k, description="K or N"),
        p=ipywidgets.IntSlider(value=p, min=1, max=6, description="P"),
        seed=ipywidgets.IntSlider(value=seed, min=0, max=9, description="seed"),
    )
