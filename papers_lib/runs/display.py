"""What a sweep says while it runs: rich bars in a terminal, plain lines elsewhere, or nothing.

In a notebook it shows in a live JupyterLab only, and clears itself: a saved output never holds a
progress line. Under `papers_lib.runs.notebook` the lines go to the file that `$PAPERS_PROGRESS`
names, which the command line follows.
"""

from __future__ import annotations

import base64
import html
import io
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from papers_lib.runs.progress import Progress

FOLLOWED = ("loss", "R@1", "mAP", "knn")  # numbers of a report that a live cell draws, at most


@dataclass
class Status:
    """A sweep at one moment. `seconds`: of finished runs, to tell the time left."""

    total: int
    slots: int
    done: int = 0
    failed: int = 0
    running: dict[str, Progress | None] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)

    @property
    def left(self) -> float | None:
        """Seconds left, from the mean of the finished runs; None before the first."""
        if not self.seconds:
            return None
        reports = [report for report in self.running.values() if report and report.total]
        part = sum(min(1.0, report.step / report.total) for report in reports)  # runs' worth of running ones
        todo = max(0.0, self.total - self.done - self.failed - part)
        mean = sum(self.seconds) / len(self.seconds)
        return todo * mean / self.slots

    def line(self) -> str:
        """The sweep in one line."""
        text = f"{self.done}/{self.total} done, {len(self.running)} running, {self.failed} failed"
        return text if self.left is None else f"{text}, {duration(self.left)} left"


class Display:
    """Where a sweep's news go; this one says nothing."""

    def news(self, text: str) -> None:
        """One line that stays."""

    def show(self, status: Status) -> None:
        """The sweep now; called twice per second."""

    def close(self) -> None:
        """The sweep is over."""


def display(show: bool) -> Display:
    """The display that fits where this process runs."""
    if not show:
        return Display()
    if followed := os.environ.get("PAPERS_PROGRESS"):
        return Lines(Path(followed))
    if _in_kernel():  # the variable is there in a live JupyterLab only
        return Cell() if os.environ.get("JPY_SESSION_NAME") else Display()
    return Bars() if sys.stdout.isatty() else Lines(None)


class Lines(Display):
    """Plain lines on stdout, or at the end of a file; the sweep itself every 30 seconds."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.last = time.monotonic()

    def news(self, text: str) -> None:
        """Write the line."""
        if self.path is None:
            print(text, flush=True)
            return
        with self.path.open("a", encoding="utf-8") as file:
            file.write(text + "\n")

    def show(self, status: Status) -> None:
        """Write the sweep's line every 30 seconds."""
        if time.monotonic() - self.last >= 30:
            self.last = time.monotonic()
            self.news("; ".join([status.line(), *_steps(status)]))


class Cell(Display):
    """Lines and curves that grow with the runs, in the cell of a live notebook; cleared at the end."""

    def __init__(self) -> None:
        self.curves: dict[str, dict[str, dict[int, float]]] = {}  # number, run, step
        self.picture, self.drawn = "", 0  # the curves as HTML, and how many points it has
        self.output: Any = None

    def show(self, status: Status) -> None:
        """Replace lines and curves in place, so that the page keeps still."""
        from IPython.display import HTML
        from IPython.display import display as put

        for run, report in status.running.items():
            for name in FOLLOWED if report else ():
                if report and name in report.numbers:
                    points = self.curves.setdefault(name, {}).setdefault(run, {})
                    # a report repeats the last epoch's number until there is another
                    if report.numbers[name] not in list(points.values())[-1:]:
                        points[report.step] = report.numbers[name]
        known = sum(len(points) for runs in self.curves.values() for points in runs.values())
        if known > self.drawn:
            self.picture, self.drawn = _draw(self.curves), known
        lines = html.escape("\n".join([status.line(), *_steps(status)]))
        page = HTML(f"<pre>{lines}</pre>{self.picture}")  # type: ignore[no-untyped-call]
        if self.output is None:
            self.output = put(page, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self.output.update(page)

    def close(self) -> None:
        """Clear them."""
        from IPython.display import clear_output

        clear_output()  # type: ignore[no-untyped-call]


class Bars(Display):
    """A bar for the sweep and one for each running run."""

    def __init__(self) -> None:
        self.live = Live(console=Console(), refresh_per_second=4, transient=True)
        self.live.start()

    def news(self, text: str) -> None:
        """Print the line above the bars."""
        self.live.console.print(text, markup=False, highlight=False)

    def show(self, status: Status) -> None:
        """Redraw the bars."""
        grid = Table.grid(padding=(0, 2))
        grid.add_row("sweep", _bar(status.done + status.failed, status.total), status.line())
        for name, progress in status.running.items():
            if progress is None:
                grid.add_row(name, _bar(0, 0), "starting")
                continue
            note = f"{progress.step}/{progress.total} {progress.note}"
            grid.add_row(name, _bar(progress.step, progress.total), note)
        self.live.update(grid)

    def close(self) -> None:
        """Take the bars away."""
        self.live.stop()


def duration(seconds: float) -> str:
    """`42 s`, `7 min`, `3.5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _in_kernel() -> bool:
    """Whether this process is a notebook's kernel."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def _draw(curves: dict[str, dict[str, dict[int, float]]]) -> str:
    """A panel per number, a line per run, over its steps, as HTML."""
    from matplotlib.figure import Figure

    canvas = Figure(figsize=(4.0 * len(curves), 2.4), layout="constrained")
    panels = canvas.subplots(1, len(curves), squeeze=False)[0]
    for axes, (name, runs) in zip(panels, curves.items(), strict=True):
        for run, points in runs.items():
            axes.plot(list(points), list(points.values()), marker="o", label=run)
        axes.set(xlabel="step", ylabel=name)
    panels[0].legend(fontsize="small")
    canvas.savefig(picture := io.BytesIO(), format="png")
    data = base64.b64encode(picture.getvalue()).decode()
    return f'<img alt="{", ".join(curves)} by step, so far" src="data:image/png;base64,{data}">'


def _bar(step: int, total: int) -> ProgressBar:
    return ProgressBar(total=max(total, 1), completed=step, width=30)


def _steps(status: Status) -> list[str]:
    reports = [(run, report) for run, report in status.running.items() if report]
    return [f"{run} {report.step}/{report.total} {report.note}".rstrip() for run, report in reports]
