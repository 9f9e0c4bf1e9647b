"""The entry of both command lines: exit codes, and streams that are closed or not UTF-8."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from papers_lib import cli
from papers_lib.runs.store import Failure

ROOT = Path(__file__).parents[1]
LISTS = [["papers_lib", "list"], ["data_prep", "list"]]
WRONG = [
    ["papers_lib", "why", "no\nsuch"],
    ["data_prep", "check", "cars196", "/no/such\nplace"],
    ["data_prep"],
]
PLAIN = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def shell(arguments: list[str], closed: str = "", **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-m", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | environment, capture_output=True, check=False, timeout=60
    )


@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize(("arguments", "code"), [(one, 0) for one in LISTS] + [(one, 2) for one in WRONG])
def test_closed_streams_change_no_exit_code(closed, arguments, code):
    done = shell(arguments, closed)
    assert done.returncode == code
    assert b"Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize("arguments", WRONG)
def test_bad_input_is_one_line(arguments):
    done = shell(arguments)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.count(b"\n") == 1
    assert done.stderr.startswith(b"error: ")


def test_runs_that_failed_are_exit_code_1(places, capsys):
    sweep = ["sweep", "quadruplet_cars196", "-p", "profile", "smoke", "-p", "seeds", "0", "--limit", "1"]
    assert cli.main([*sweep, "--print-commands"]) == 0
    failure = Failure(error="the loss is infinite", traceback="")
    for spec in (places / "runs").glob("*/*/spec.json"):
        spec.with_name("failed.json").write_text(failure.model_dump_json())
    assert cli.main(sweep) == 1
    assert "failed before: the loss is infinite" in capsys.readouterr().out


@pytest.mark.parametrize(
    "environment", [{"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "cp1252"}, PLAIN]
)
def test_what_a_stream_cannot_encode_is_written_as_json_does(environment):
    done = shell(["papers_lib", "list", "--json"], **environment)
    assert (done.returncode, done.stderr) == (0, b"")
    coding = "cp1252" if "cp1252" in environment.values() else "ascii"
    whole = shell(["papers_lib", "list", "--json"], PYTHONIOENCODING="utf-8").stdout.decode("utf-8")
    assert json.loads(done.stdout.decode(coding)) == json.loads(whole)
    assert not whole.isascii()


def test_a_child_of_a_process_with_closed_streams_has_whole_ones():
    code = (
        "import subprocess, sys; from papers_lib.entry import prepare_streams; prepare_streams()\n"
        "child = 'import sys; sys.exit(None in (sys.stdin, sys.stdout, sys.stderr))'\n"
        "print('said'); sys.stdout.flush()\n"
        "sys.exit(subprocess.run([sys.executable, '-c', child]).returncode)"
    )
    command = ["sh", "-c", 'exec "$0" -c "$1" <&- >&- 2>&-', sys.executable, code]
    assert subprocess.run(command, cwd=ROOT, check=False, timeout=60).returncode == 0
