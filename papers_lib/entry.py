"""What the command lines share at their entry: streams, signals, and errors of one line."""

from __future__ import annotations

import argparse
import codecs
import json
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

from papers_lib.errors import PapersError


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and exit."""
        self.exit(2, f"error: {' '.join(message.splitlines())}; see {self.prog} --help\n")


def answer(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> int:
    """Parse `arguments`, call the function that the parser has set as `command`, and return its exit code.

    Bad input and a fault of the machine are one line on stderr and 2; a signal or a closed pipe is
    128 and its number, as in a shell.
    """
    prepare_streams()
    warnings.filterwarnings("ignore", module=r"PIL\.")  # what is wrong with an image is said in our own line
    try:
        try:
            options = parser.parse_args(arguments)
            return int(options.command(options))
        finally:
            sys.stdout.flush()  # here, for --help too: a full disk or a closed pipe is seen below
    except PapersError as error:
        message = str(error)
    except KeyboardInterrupt as stop:
        return 128 + int(stop.args[0] if stop.args else signal.SIGINT)
    except OSError as error:
        # What is still buffered has nowhere to go; without this Python says so once more at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):  # the reader of a pipe had enough
            return 128 + signal.SIGPIPE
        message = f"cannot use {error.filename or 'the output'} ({error.strerror or error}): mend it, repeat"
    with suppress(OSError):  # stderr may be closed or full: the exit code says it still
        print("error:", " ".join(message.splitlines()), file=sys.stderr)
    return 2


def prepare_streams() -> None:
    """Let every print succeed: a closed stream goes nowhere, what cannot be encoded is written as \\uXXXX.

    A closed file descriptor is opened too, so that no file of ours becomes the stderr of a child.
    """

    def escaped(error: UnicodeError) -> tuple[str, int]:
        """As JSON has it, so that JSON stays JSON."""
        assert isinstance(error, UnicodeEncodeError)
        return json.dumps(error.object[error.start : error.end])[1:-1], error.end

    codecs.register_error("papers_lib", escaped)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            nowhere = Path(os.devnull).open("w" if number else "r", encoding="utf-8")  # noqa: SIM115
            setattr(sys, name, nowhere)
            if nowhere.fileno() == number:  # it took the number of the closed one, which a child expects
                os.set_inheritable(number, True)
        elif number and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="papers_lib")


def stop_politely() -> None:
    """Let SIGTERM and a closed terminal stop this process as Ctrl-C does, and no worker outlives it.

    The first signal raises KeyboardInterrupt with its number; later ones do not cut the clean-up short.
    """
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    # What nohup or a shell's `&` has set to be ignored stays ignored.
    ours = [n for n in numbers if signal.getsignal(n) in (signal.SIG_DFL, signal.default_int_handler)]

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        for later in ours:
            signal.signal(later, lambda *_: None)
        raise KeyboardInterrupt(number)

    for number in ours:
        signal.signal(number, stop)
