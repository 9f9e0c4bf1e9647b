"""A figure as data: drawn from a data frame without global state, the same bytes for the same data.

Notebook checkers do not compare pictures, so a figure's text carries a fingerprint of the CSV that it
was drawn from; whoever cannot see the picture has its alt text.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from papers_lib.errors import PapersError
from papers_lib.exhibits.table import check_name, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas
    from pandas import DataFrame

STYLE = Path(__file__).with_name("papers.mplstyle")
DPI = 110
MAX_PNG_BYTES = 120 * 1024  # pictures are committed, in notebooks too
NOT_RUN_HEIGHT = 1.2  # inches
DIGITS = 6  # significant digits of the CSV, and so of what is drawn


@dataclass(frozen=True, eq=False, repr=False)
class Figure:
    """A named figure. `draw(canvas, data)` gets an empty matplotlib Figure and the data.

    The data are rounded to six significant digits first, so that the picture, its CSV and its
    fingerprint say the same. Without data it says "not run" in place of empty axes. `size` is in inches.

    Raises:
        PapersError: no alt text, or a name that is no file name.
    """

    name: str
    title: str
    alt: str
    data: DataFrame
    draw: Callable[[Canvas, DataFrame], object]
    badge: str = ""
    footer: str = ""
    size: tuple[float, float] = (6.4, 4.0)
    colours: int = 256  # of the PNG: 64 are enough for lines and marks, and save a quarter of the bytes

    def __post_init__(self) -> None:
        check_name(self.name)
        if not self.alt.strip():
            raise PapersError(f"figure {self.name} has no alt text; say what it shows in a sentence")
        # frozen, and this is its construction
        object.__setattr__(self, "data", _rounded(self.data))

    def csv(self) -> str:
        """The data that the picture shows."""
        return str(self.data.to_csv(index=False, float_format=f"%.{DIGITS}g", lineterminator="\n"))

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits of the SHA-256 of the CSV."""
        return hashlib.sha256(self.csv().encode()).hexdigest()[:12]

    @cached_property
    def png(self) -> bytes:
        """The picture at 110 dpi, in `colours`: a third of the bytes, and drawings need no more."""
        image = self._render("png", dpi=DPI, metadata={"Software": None})
        return _fewer_colours(self.name, image, self.colours)

    @cached_property
    def svg(self) -> bytes:
        """The picture as vectors, its text as text, its alt text as description."""
        # no date and no version: the same bytes on every machine
        words = {"Date": None, "Creator": None, "Title": self.title, "Description": self.alt}
        return self._render("svg", metadata=words)

    @cached_property
    def pdf(self) -> bytes:
        """The picture for LaTeX, its fonts embedded."""
        words = {"CreationDate": None, "Creator": None, "Producer": None, "Title": self.title}
        return self._render("pdf", metadata=words)

    def save(self, folder: Path) -> list[Path]:
        """Write `<name>` as `.png`, `.svg`, `.pdf` and `.csv` into `folder`, each whole or not at all."""
        contents = {".png": self.png, ".svg": self.svg, ".pdf": self.pdf, ".csv": self.csv().encode()}
        return save(folder, self.name, contents)

    def __repr__(self) -> str:
        """Name, title, badge, alt text and the fingerprint of the data."""
        # nbval compares this text, so it carries the digest of what was drawn
        badge = f" [{self.badge}]" if self.badge else ""
        lines = [f"{self.name}: {self.title}{badge}", self.alt, f"data {self.fingerprint}"]
        return "\n".join([*lines, self.footer] if self.footer else lines)

    def _repr_html_(self) -> str:
        """The picture with its alt text, which JupyterLab gives to no image that stands by itself."""
        image = base64.b64encode(self.png).decode()
        return f'<img alt="{html.escape(self.alt)}" src="data:image/png;base64,{image}">'

    @contextmanager
    def drawn(self) -> Iterator[Canvas]:
        """The matplotlib figure in the house's style, which holds as long as the context does."""
        import matplotlib.style
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure as Canvas

        # "default" first: a user's matplotlibrc changes nothing
        with matplotlib.style.context(["default", STYLE]):
            # without pyplot, whose global state keeps every figure alive
            canvas = Canvas(figsize=self._size, layout="constrained")
            FigureCanvasAgg(canvas)
            self._write_words(canvas)
            if self.data.empty:
                canvas.text(0.5, 0.5, "not run", size=9.0, color="#555555", va="center", ha="center")
            else:
                self.draw(canvas, self.data.copy())  # a copy: what draws may change its data
            yield canvas

    def _render(self, kind: str, **options: Any) -> bytes:
        out = io.BytesIO()
        with self.drawn() as canvas:
            canvas.savefig(out, format=kind, **options)
        return out.getvalue()

    @property
    def _size(self) -> tuple[float, float]:
        return (self.size[0], NOT_RUN_HEIGHT) if self.data.empty else self.size

    def _write_words(self, canvas: Canvas) -> None:
        """Title and badge above, footer below, and the room between them for the drawing."""
        width, height = self._size
        top = [(self.title, 11.0, "#000000"), (self.badge, 7.5, "#A34700")]
        y = 1.0  # of the height, from below
        for text, points, colour in top:
            lines = _wrap(text, width, points)
            if lines:
                canvas.text(0.01, y - 0.01, "\n".join(lines), size=points, color=colour, va="top", ha="left")
            y -= len(lines) * points * 1.4 / 72 / height  # 1.4: line height; 72 points are an inch
        foot = _wrap(self.footer, width, 6.5)
        canvas.text(0.01, 0.01, "\n".join(foot), size=6.5, color="#555555", va="bottom", ha="left")
        bottom = len(foot) * 6.5 * 1.4 / 72 / height + 0.01
        engine: Any = canvas.get_layout_engine()
        engine.set(rect=(0, bottom, 1, y - 0.02 - bottom))  # left, bottom, width, height


def _wrap(text: str, width: float, points: float) -> list[str]:
    """Lines that fit `width` inches: a letter of the style's font is about 0.56 of its size wide."""
    # characters = inches · 72 points / (0.56 · size)
    return textwrap.wrap(text, max(10, int(width * 0.98 * 72 / (0.56 * points))))


def _rounded(data: DataFrame) -> DataFrame:
    copy = data.reset_index(drop=True)  # an index is not written to the CSV
    for column in copy.select_dtypes("float"):
        copy[column] = [float(f"{x:.{DIGITS}g}") + 0.0 for x in copy[column]]  # + 0.0: no −0
    return copy


def _fewer_colours(name: str, image: bytes, colours: int) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    # few colours by an octree: the median cut would mix those of thin lines
    method = Image.Quantize.MEDIANCUT if colours == 256 else Image.Quantize.FASTOCTREE
    # a palette: one byte per pixel, for three
    Image.open(io.BytesIO(image)).convert("RGB").quantize(colours, method).save(out, "png", optimize=True)
    if out.tell() > MAX_PNG_BYTES:
        raise PapersError(
            f"figure {name}: the PNG has {out.tell() // 1024} KB, over {MAX_PNG_BYTES // 1024}; "
            "draw fewer marks or a smaller size"
        )
    return out.getvalue()
