"""A figure under the reader's hands: controls in an open notebook, one saved picture elsewhere."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from typing import Any

from papers_lib.exhibits.figure import Figure


def explore(draw: Callable[..., Figure], **choices: Sequence[Any]) -> Any:
    """What `draw` returns, with a control per argument that follows the reader's hand.

    Where nobody can move a control, as in a notebook that is executed headlessly, the picture of `draw`'s own
    defaults stands in its place.

    Args:
        draw: every argument has a default, which is among its choices.
        choices: the values that an argument may take, in order, as (label, value) or alone.
    """
    if not os.environ.get("JPY_SESSION_NAME"):  # set by JupyterLab for the kernel of an open notebook
        return draw()
    import ipywidgets
    from IPython.display import display

    def show(**values: Any) -> None:
        display(draw(**values))  # type: ignore[no-untyped-call]

    defaults = {name: argument.default for name, argument in inspect.signature(draw).parameters.items()}
    return ipywidgets.interactive(
        show, **{name: _control(name, values, defaults[name]) for name, values in choices.items()}
    )


def _control(name: str, values: Sequence[Any], value: Any) -> Any:
    import ipywidgets

    numbers = all(isinstance(x, int | float) for x in values)
    kind = ipywidgets.SelectionSlider if numbers else ipywidgets.Dropdown
    style = {"description_width": "initial"}
    # a slider that is dragged asks once, when it is let go
    more = {"continuous_update": False} if numbers else {}
    return kind(options=list(values), value=value, description=name.replace("_", " "), style=style, **more)
