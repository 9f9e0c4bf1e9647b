"""Writing files: through links, with the modes that are there, on simple file systems, after kills; locks."""

import errno
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import Timeout

from papers_lib import files
from papers_lib.files import PlaceError, locked, replacing


def write(path, text="new"):
    with replacing(path) as temporary:
        temporary.write_text(text)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def umask():
    """Sets the process's umask, and back."""
    old = os.umask(0o022)
    yield os.umask
    os.umask(old)


@pytest.mark.parametrize("there", [True, False])
def test_links_stay_and_what_they_point_to_is_replaced(tmp_path, there):
    (tmp_path / "shared").mkdir()
    real = tmp_path / "shared" / "real"
    if there:
        real.write_text("old")
    (tmp_path / "first").symlink_to("shared/real")
    (tmp_path / "second").symlink_to(tmp_path / "first")
    write(tmp_path / "second")
    assert (tmp_path / "first").is_symlink() and (tmp_path / "second").is_symlink()
    assert real.read_text() == "new"
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["first", "real", "second", "shared"]


@pytest.mark.parametrize("to", ["link", "absent/file"])
def test_a_link_that_leads_nowhere_is_one_line(tmp_path, to):
    (tmp_path / "link").symlink_to(to)
    with pytest.raises(PlaceError, match="link") as caught:
        write(tmp_path / "link")
    assert "\n" not in str(caught.value) and [p.name for p in tmp_path.iterdir()] == ["link"]


@pytest.mark.parametrize("number", [0o600, 0o644, 0o664, 0o640])
def test_a_file_keeps_its_mode(tmp_path, umask, number):
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(number)
    write(path)
    assert mode(path) == number and path.read_text() == "new"


@pytest.mark.parametrize("number", [0o022, 0o077, 0o002, 0o000])
def test_a_new_file_has_the_mode_of_the_umask(tmp_path, umask, number):
    umask(number)
    write(tmp_path / "file")
    assert mode(tmp_path / "file") == 0o666 & ~number


def test_a_read_only_file_stays(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o444)
    (tmp_path / "link").symlink_to(path)
    for one in (path, tmp_path / "link"):
        with pytest.raises(PlaceError, match=r"read-only.*make it writable"):
            write(one)
    assert path.read_text() == "old" and mode(path) == 0o444


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
@pytest.mark.parametrize("lacking", ["fsync", "chmod", "chown"])
def test_a_file_system_that_lacks_a_call(tmp_path, monkeypatch, lacking, code):
    path = tmp_path / "file"
    path.write_text("old")

    def refuse(*_, **__):
        raise OSError(code, "not here")

    monkeypatch.setattr(os, lacking, refuse)
    write(path)
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_a_disk_that_is_full_at_the_flush_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_text("old")

    def full(handle):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PlaceError, match="no room"):
        write(path)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


KILLED = """
import os, signal, sys
from pathlib import Path
from papers_lib.files import replacing
with replacing(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_write_left_goes_with_the_next(tmp_path):
    path = tmp_path / "led[g]er"
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL and len(list(tmp_path.iterdir())) == 1
    other = tmp_path / ".another.00000000-1-ab.tmp"
    other.touch()
    write(path)
    assert sorted(tmp_path.iterdir()) == [other, path]


def test_a_write_that_is_under_way_is_left_alone(tmp_path):
    path = tmp_path / "file"
    with replacing(path) as first:
        first.write_text("first")
        write(path, "second")
        elsewhere = tmp_path / ".file.ffffffff-1-ab.tmp"  # of another machine
        elsewhere.touch()
        write(path, "third")
        assert first.exists() and elsewhere.exists()
        os.utime(elsewhere, (1, 1))
        write(path, "fourth")
        assert first.exists() and not elsewhere.exists()
    assert path.read_text() == "first"


def held_elsewhere(path):
    """A process that has the lock."""
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom papers_lib.files import locked\n"
        "with locked(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    return process


def test_a_lock_of_another_user_needs_reading_only(tmp_path, monkeypatch):
    path, real = tmp_path / ".lock", os.open

    def denied(name, flags, *rest, **more):
        if Path(name) == path and flags & os.O_ACCMODE != os.O_RDONLY:
            raise PermissionError(errno.EACCES, "denied")
        return real(name, flags, *rest, **more)

    process = held_elsewhere(path)
    monkeypatch.setattr(os, "open", denied)
    for timeout in (0, 0.2):
        with pytest.raises(Timeout), locked(path, timeout):
            pass
    process.kill()
    process.wait()
    with locked(path):
        pass


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks(tmp_path, monkeypatch, code):
    import fcntl

    def refuse(*_):
        raise OSError(code, "no locks here")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with locked(tmp_path / ".lock"), pytest.raises(Timeout), locked(tmp_path / ".lock", 0.1):
        pass
    with locked(tmp_path / ".lock"):
        pass


def test_a_lock_is_free_when_its_holder_is_killed(tmp_path):
    process = held_elsewhere(tmp_path / ".lock")
    with pytest.raises(Timeout), locked(tmp_path / ".lock"):
        pass
    process.kill()
    process.wait()
    began = time.monotonic()
    with locked(tmp_path / ".lock"):
        assert time.monotonic() - began < 1
    assert files._writing == set()
