"""What a sweep shows, and where."""

import io
import sys

import IPython.display
from rich.console import Console

from papers_lib.runs import display as module
from papers_lib.runs.display import Bars, Cell, Display, Lines, Status, display, duration
from papers_lib.runs.progress import Progress

RUNNING = {"a": Progress(step=5, total=10, note="epoch 2"), "b": None}
STATUS = Status(total=10, slots=2, done=3, failed=1, seconds=[10.0, 30.0], running=RUNNING)


def test_time_left_from_finished_runs_and_steps():
    """6 runs left, half of one done: 5.5 runs of 20 s in two slots."""
    assert STATUS.left == 55.0
    assert STATUS.line() == "3/10 done, 2 running, 1 failed, 55 s left"
    assert Status(total=2, slots=1).line() == "0/2 done, 0 running, 0 failed"
    assert [duration(s) for s in (42, 420, 12600)] == ["42 s", "7 min", "3.5 h"]


def test_where_it_shows(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "_in_kernel", lambda: False)
    assert type(display(False)) is Display
    assert type(display(True)) is Lines
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(module, "Bars", Display)
    assert type(display(True)) is Display
    monkeypatch.setattr(module, "_in_kernel", lambda: True)
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    assert type(display(True)) is Display, "a saved output holds no progress"
    monkeypatch.setenv("JPY_SESSION_NAME", "x.ipynb")
    assert type(display(True)) is Cell
    monkeypatch.setenv("PAPERS_PROGRESS", str(tmp_path / "progress"))
    view = display(True)
    view.news("a line")
    assert (tmp_path / "progress").read_text() == "a line\n"
    assert type(display(False)) is Display


def test_lines_tell_the_sweep_every_30_seconds(capsys, monkeypatch):
    view = Lines(None)
    view.show(STATUS)
    assert capsys.readouterr().out == ""
    view.last -= 31
    view.show(STATUS)
    view.show(STATUS)
    assert capsys.readouterr().out == STATUS.line() + "; a 5/10 epoch 2\n"


def test_bars_in_a_terminal(monkeypatch):
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=120, height=20)
    monkeypatch.setattr(module, "Console", lambda: console)
    view = Bars()
    view.show(STATUS)
    view.live.refresh()
    view.news("done [x] in 3 s")
    view.close()
    for part in ("sweep", "3/10 done", "5/10 epoch 2", "starting", "done [x] in 3 s"):
        assert part in text.getvalue()


class Output:
    """Stands for the place in a notebook's cell that `display` gives."""

    def __init__(self):
        self.pages = []

    def put(self, page, display_id):
        self.update(page)
        return self

    def update(self, page):
        self.pages.append(page.data)


def test_cell_draws_curves_that_grow_in_one_place(monkeypatch):
    shown = Output()
    monkeypatch.setattr(IPython.display, "display", shown.put)
    view = Cell()
    view.show(Status(2, 2, running={"a<b": None, "b": None}))
    for step, loss in ((0, 2.0), (1, 2.0), (2, 1.5)):
        report = Progress(step=step, total=4, numbers={"loss": loss, "epoch": 1.0})
        view.show(Status(2, 2, running={"a<b": report, "b": None}))
    assert view.curves == {"loss": {"a<b": {0: 2.0, 2: 1.5}}}
    first, *pictures = (page.partition("<img ")[2] for page in shown.pages)
    assert first == "" and pictures[0] == pictures[1] != pictures[2]
    assert all("loss by step, so far" in one and "base64,iVBOR" in one for one in pictures)
    assert "a&lt;b 2/4" in shown.pages[-1]


def test_cell_clears_itself(monkeypatch):
    cleared = []
    monkeypatch.setattr(IPython.display, "clear_output", lambda: cleared.append(1))
    Cell().close()
    assert cleared == [1]
