"""The process that papermill runs in: one notebook, one process (`papers_lib.runs.notebook` starts it).

    python -m papers_lib.runs.headless JOB.json

Threads would share the working folder (papermill issue 473); a process of its own can be killed
with all that it started.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from pathlib import Path
from typing import Any

from papers_lib.runs import parent


def main(job: dict[str, Any]) -> dict[str, str]:
    """Execute the job's notebook; returns the error's type and text, both empty on success."""
    import papermill

    _follow(Path(job["progress"]), job["cells"])
    try:
        papermill.execute_notebook(
            _literal(job["notebook"]),
            _literal(job["output"]),
            job["parameters"],
            kernel_name="python3",
            cwd=job["folder"],
            execution_timeout=job["cell_timeout"],
            progress_bar=False,
            log_output=True,
        )
    except Exception as error:
        return {"type": type(error).__name__, "text": str(error)}
    return {"type": "", "text": ""}


def _literal(path: str) -> str:
    """papermill formats its paths with `str.format`."""
    return path.replace("{", "{{").replace("}", "}}")


def _follow(progress: Path, cells: int) -> None:
    """Write which cell is running to the progress file; drop papermill's other messages."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found = re.match(r"Executing Cell (\d+)", record.getMessage())
            if found:
                with progress.open("a", encoding="utf-8") as file:
                    file.write(f"cell {found[1]} of {cells}\n")

    logger = logging.getLogger("papermill")
    logger.handlers, logger.propagate = [Handler()], False
    logger.setLevel(logging.INFO)


if __name__ == "__main__":
    parent.follow()
    path = Path(sys.argv[1])
    answer = main(json.loads(path.read_text(encoding="utf-8")))
    path.with_name("answer.json").write_text(json.dumps(answer), encoding="utf-8")
    os._exit(0)  # whatever thread of the kernel's client still hangs
