"""Stand-ins: drawn by a recipe, and known by it: name, size, seed, options, and version of the drawing.

All of that is in `STANDIN.json`; the pictures are the same bytes wherever they are drawn with one Pillow.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from papers_lib.datasets.folders import STANDIN, recipe_told
from papers_lib.errors import PapersError
from papers_lib.settings import Frozen, parse, validate


@dataclass(frozen=True)
class StandIn:
    """How one data set is drawn.

    `kind` is the model of its recipe, `sizes` the settings of each size. `draw` writes all files of a recipe
    to an empty folder, and returns what else `STANDIN.json` is to say, `counts` at least. `drawing` is
    raised with every change that alters a picture by more than rounding.
    """

    name: str
    drawing: str
    kind: type[Frozen]
    sizes: Mapping[str, Mapping[str, Any]]
    draw: Callable[[Path, Any], dict[str, Any]]

    def recipe(self, size: str, options: dict[str, str]) -> Any:
        """The recipe of a size, with single settings changed.

        Raises:
            PapersError: an unknown size or setting, or a value out of range.
        """
        if size not in self.sizes:
            raise PapersError(f"unknown size {size!r}; known: {', '.join(self.sizes)}")
        return validate(self.kind, dict(self.sizes[size]) | parse(self.kind, options))

    def make(self, folder: Path, size: str, options: dict[str, str]) -> None:
        """Draw into an empty `folder`; errors as `recipe`."""
        recipe = self.recipe(size, options)
        told = self.asked(size, recipe) | {"recipe": recipe.model_dump()} | self.draw(folder, recipe)
        (folder / STANDIN).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")

    def made(self, folder: Path, size: str, options: dict[str, str]) -> bool:
        """Whether `folder` holds the stand-in that `make` would draw now, by its `STANDIN.json`.

        Raises:
            PapersError: as `recipe`; and where an earlier version has drawn it, which did not tell all.
        """
        asked = self.asked(size, self.recipe(size, options))
        path = folder / STANDIN
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return isinstance(told, dict) and recipe_told(path, self.name, told) == asked

    def asked(self, size: str, recipe: Frozen) -> dict[str, Any]:
        """What it is known by; `options` are the settings that are not the size's own."""
        usual = validate(self.kind, self.sizes[size]).model_dump()
        values = recipe.model_dump()
        options = {name: value for name, value in values.items() if value != usual[name]}
        options.pop("seed", None)
        seed = values["seed"]
        return {"name": self.name, "size": size, "seed": seed, "options": options, "drawing": self.drawing}
