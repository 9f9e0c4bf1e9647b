import pandas as pd
import pytest

from papers_lib.exhibits.explore import explore
from papers_lib.exhibits.figure import Figure


def picture(k=5, rule="median"):
    def draw(canvas, data):
        canvas.text(0.5, 0.5, f"{rule} {k}")

    return Figure("toy", f"{rule} {k}", "A word.", pd.DataFrame({"k": [k]}), draw)


def test_the_defaults_stand_where_nobody_can_move_a_control(monkeypatch):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    assert explore(picture, k=[1, 5, 9], rule=["median", "hardest"]).title == "median 5"


def test_controls_follow_the_hand_in_an_open_notebook(monkeypatch, capsys):
    widgets = pytest.importorskip("ipywidgets")
    monkeypatch.setenv("JPY_SESSION_NAME", "x.ipynb")
    live = explore(picture, k=[1, 5, 9], rule=[("half", "median"), ("first", "hardest")])
    slider, menu = live.children[:2]
    assert isinstance(slider, widgets.SelectionSlider) and slider.options == (1, 5, 9) and slider.value == 5
    assert isinstance(menu, widgets.Dropdown) and menu.label == "half"
    slider.value, menu.value = 9, "hardest"
    assert live.kwargs == {"k": 9, "rule": "hardest"}
