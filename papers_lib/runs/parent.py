"""A process that ends with the one that started it, even where that was killed without a word."""

from __future__ import annotations

import os
import threading
import time

NAME = "PAPERS_PARENT"  # the environment names the parent; a process started by hand follows nobody


def named() -> dict[str, str]:
    """What a child's environment needs to follow this process."""
    return {NAME: str(os.getpid())}


def follow(every: float = 1.0) -> None:
    """End this process soon after the parent that its environment names; at once if it is gone."""
    asked = os.environ.pop(NAME, "")
    if asked.isdecimal() and os.name == "posix":
        threading.Thread(target=_watch, args=(int(asked), every), daemon=True).start()


def _watch(parent: int, every: float) -> None:
    while os.getppid() == parent:
        time.sleep(every)
    os._exit(143)  # as after SIGTERM: nothing recorded, the run resumes
