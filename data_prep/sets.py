"""What `python -m data_prep` knows of a data set: how it is read, checked, told of, and drawn.

A stand-in is drawn by a recipe, and known by it: name, size, seed, options, and version of the drawing. All
of that is in its `STANDIN.json`; the pictures are the same bytes wherever they are drawn with one Pillow.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

from data_prep.pictures import faults
from papers_lib.datasets.folders import STANDIN, recipe_told
from papers_lib.errors import PapersError
from papers_lib.settings import Frozen, parse, validate

CARDS = Path(__file__).with_name("cards")
PACKS = (".rec", ".bin")  # hold many images; `problems` of their data set opens those


@dataclass(frozen=True)
class Report:
    """What a check found: `problems` make it fail, `notes` do not; `summary` says what is there."""

    summary: str
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


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

    def asked(self, size: str, recipe: Any) -> dict[str, Any]:
        """What it is known by; `options` are the settings that are not the size's own."""
        usual = validate(self.kind, self.sizes[size]).model_dump()
        values = recipe.model_dump()
        seed = values.pop("seed")  # stands beside the options
        options = {name: value for name, value in values.items() if value != usual[name]}
        return {"name": self.name, "size": size, "seed": seed, "options": options, "drawing": self.drawing}

    def make(self, folder: Path, size: str, options: dict[str, str]) -> None:
        """Draw into an empty `folder`; errors as `recipe`."""
        recipe = self.recipe(size, options)
        content = self.asked(size, recipe)
        content.setdefault("recipe", recipe.model_dump())  # `asked` may have left a place out
        content |= self.draw(folder, recipe)
        (folder / STANDIN).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    def made(self, folder: Path, size: str, options: dict[str, str]) -> bool:
        """Whether `folder` holds the stand-in that `make` would draw now, by its `STANDIN.json`.

        Raises:
            PapersError: as `recipe`; and where an earlier version has drawn it, which did not tell all.
        """
        asked = self.asked(size, self.recipe(size, options))
        try:
            content = json.loads((folder / STANDIN).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return isinstance(content, dict) and self.known_by(folder / STANDIN, content, asked) == asked

    def known_by(self, path: Path, content: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
        """What the `content` of the `STANDIN.json` at `path` says of that which `asked` says."""
        return recipe_told(path, self.name, content)


@dataclass(frozen=True)
class DataSet:
    """One data set by name.

    `survey` takes its folder, or the folder that holds it, and opens no image; what it returns has `base`,
    the folder of the data set, `sizes` of all images by path, and `problems`; `summary` puts that in a line.
    `more_problems(survey, problems)` are those that need open files, beside broken images. `archives` names
    the files in which it is handed out, a tuple for each way: a SOURCE folder that holds all files of one way
    is unpacked, not copied. What is `withdrawn` has a survey that takes `acknowledge_withdrawn`.
    """

    name: str
    survey: Callable[..., Any]
    summary: Callable[[Any], str]
    stand_in: StandIn | None = None
    _: KW_ONLY
    more_problems: Callable[[Any, list[str]], Iterable[str]] = lambda found, problems: ()
    notes: Callable[[Any], Iterable[str]] = lambda found: found.notes
    archives: tuple[tuple[str, ...], ...] = ()
    withdrawn: bool = False

    def check(self, root: Path) -> Report:
        """Hold names, labels, lists and counts against each other, then open every image.

        Raises:
            PapersError: there is no such data set under `root`, or it is withdrawn and not acknowledged.
        """
        found = self.survey(root)
        images = [found.base / file for file in sorted(found.sizes) if not file.endswith(PACKS)]
        problems = [*found.problems, *faults(images)]
        problems += self.more_problems(found, problems)
        # a folder that is listed twice says twice what is wrong with its names
        return Report(self.summary(found), tuple(dict.fromkeys(problems)), tuple(self.notes(found)))

    @property
    def card(self) -> Path:
        """The data card, Markdown."""
        return CARDS / f"{self.name}.md"

    @property
    def headline(self) -> str:
        """The card's first line of text."""
        lines = self.card.read_text(encoding="utf-8").splitlines()
        return next(line for line in lines if line and not line.startswith("#"))

    def folder(self, root: Path) -> Path:
        """Where it is written: `root` when that bears its name, else a folder of its name inside."""
        return root if root.name == self.name else root / self.name
