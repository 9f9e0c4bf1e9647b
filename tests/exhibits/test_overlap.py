"""No text of a figure stands on another text, or leaves the picture."""

from itertools import combinations

import matplotlib.text
import pandas as pd
import pytest

from papers_lib.exhibits.figure import Figure
from papers_lib.papers import PAPERS, get, open_paper, shown_profile

SLACK = 1.5  # pixels that two boxes may share: the white round a letter


def faults(figure, monkeypatch):
    """One line per text that is cut, and per pair of texts that overlap."""
    boxes = []
    draw = matplotlib.text.Text.draw

    def note(text, renderer, *rest, **options):  # whatever is drawn: ticks outside their axis are not
        if text.get_visible() and text.get_text().strip():
            boxes.append((text.get_text().strip(), text.get_window_extent(renderer)))
        return draw(text, renderer, *rest, **options)

    with figure.drawn() as canvas, monkeypatch.context() as patch:
        canvas.canvas.draw()  # the layout settles
        patch.setattr(matplotlib.text.Text, "draw", note)
        canvas.canvas.draw()
        width, height = canvas.canvas.get_width_height()
    cut = [
        f"'{text}' is cut"
        for text, box in boxes
        if min(box.x0, box.y0) < -SLACK or box.x1 > width + SLACK or box.y1 > height + SLACK
    ]
    return cut + [f"'{a}' on '{b}'" for (a, one), (b, other) in combinations(boxes, 2) if meet(one, other)]


def meet(one, other):
    across = min(one.x1, other.x1) - max(one.x0, other.x0)
    down = min(one.y1, other.y1) - max(one.y0, other.y0)
    return min(across, down) > SLACK


@pytest.mark.parametrize("paper", PAPERS)
def test_no_text_of_a_committed_figure_overlaps(paper, monkeypatch):
    book = open_paper(paper, profile=shown_profile(get(paper)))
    found = {name: faults(figure, monkeypatch) for name, figure in book._figures.items()}
    assert {name: lines for name, lines in found.items() if lines} == {}


@pytest.mark.parametrize(("x", "seen"), [(0.5, "'one' on 'two'"), (0.97, "'one' is cut"), (0.1, "")])
def test_overlap_and_cut_are_seen(x, seen, monkeypatch):
    def draw(canvas, data):
        canvas.text(x, 0.5, "one")
        canvas.text(0.5, 0.5, "two")

    lines = faults(Figure("toy", "Toy", "Two words.", pd.DataFrame({"a": [1]}), draw), monkeypatch)
    assert lines == ([seen] if seen else [])
