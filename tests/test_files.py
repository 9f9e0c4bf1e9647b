"""Writing files: through links, with the modes that are there, on simple file systems, after kills; locks."""

import errno
import fcntl
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import Timeout

from papers_lib import files
from papers_lib.errors import PapersError
from papers_lib.files import PlaceError, locked, replacing, resolve


def write(path, text="new"):
    with replacing(path) as temporary:
        temporary.write_text(text)


def raising(code):
    def refuse(*_, **__):
        raise OSError(code, "not here")

    return refuse


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    return path


def test_the_old_file_stays_until_the_new_one_is_on_the_disk(file, monkeypatch):
    """Flush the new file, rename it, flush the folder: at no time is there half a file."""
    steps, fsync, replace = [], os.fsync, os.replace

    def flush(handle):
        steps.append(("flush", str(Path(f"/proc/self/fd/{handle}").readlink()), file.read_text()))
        fsync(handle)

    def rename(source, target):
        steps.append(("rename", str(source), file.read_text()))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(os, "replace", rename)
    with replacing(file) as temporary:
        temporary.write_text("new")
        assert file.read_text() == "old"
    new, folder = str(temporary), str(file.parent)
    assert steps == [("flush", new, "old"), ("rename", new, "old"), ("flush", folder, "new")]
    assert file.read_text() == "new" and list(file.parent.iterdir()) == [file]


def test_a_write_that_fails_leaves_the_old_file_and_no_other(file):
    with pytest.raises(RuntimeError), replacing(file) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert file.read_text() == "old" and list(file.parent.iterdir()) == [file] and files._writing == set()


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


@pytest.mark.parametrize(
    ("to", "why"), [("link", "in a circle"), ("absent/file", "whose folder is not there")]
)
def test_a_link_that_leads_nowhere_is_one_line(tmp_path, to, why):
    (tmp_path / "link").symlink_to(to)
    with pytest.raises(PlaceError, match=f"link.*{why}") as caught:
        write(tmp_path / "link")
    assert "\n" not in str(caught.value) and [p.name for p in tmp_path.iterdir()] == ["link"]


@pytest.mark.parametrize(
    ("mode", "umask", "want"),
    [(0o600, 0o022, 0o600), (0o664, 0o077, 0o664), (None, 0o022, 0o644), (None, 0, 0o666)],
)
def test_a_file_keeps_its_mode_and_a_new_one_has_that_of_the_umask(tmp_path, mode, umask, want):
    path = tmp_path / "new" / "file"
    if mode is not None:
        path.parent.mkdir()
        path.write_text("old")
        path.chmod(mode)
    before = os.umask(umask)
    try:
        write(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == want and path.read_text() == "new"


def test_a_file_keeps_its_group(file, monkeypatch):
    changed = []
    monkeypatch.setattr(os, "chown", lambda path, user, group: changed.append((path.name[:5], user, group)))
    write(file)
    write(file.with_name("another"))
    assert changed == [(".file", -1, file.stat().st_gid)]


def test_a_read_only_file_stays(file):
    file.chmod(0o555)
    link = file.with_name("link")
    link.symlink_to(file)
    for path in (file, link):
        with pytest.raises(PlaceError, match=r"read-only.*make it writable"):
            write(path)
    assert file.read_text() == "old" and stat.S_IMODE(file.stat().st_mode) == 0o555


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
@pytest.mark.parametrize("lacking", ["fsync", "chmod", "chown"])
def test_a_file_system_that_lacks_a_call(file, monkeypatch, lacking, code):
    monkeypatch.setattr(os, lacking, raising(code))
    write(file)
    assert file.read_text() == "new" and list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize(
    ("call", "code", "why"),
    [
        ("fsync", errno.ENOSPC, "no room left on the disk of .*: free some space, or buy one"),
        ("fsync", errno.EDQUOT, "no room left"),
        ("fsync", errno.EIO, "cannot write .*: make it writable, or buy one"),
        ("open", errno.EROFS, "cannot write"),
    ],
)
def test_a_disk_that_refuses_leaves_the_old_file(file, monkeypatch, call, code, why):
    with monkeypatch.context() as patch:
        patch.setattr(os, call, raising(code))
        with pytest.raises(PlaceError, match=why), replacing(file, "buy one") as temporary:
            temporary.write_text("new")
    assert file.read_text() == "old" and list(file.parent.iterdir()) == [file]


# -- what killed writes left --

KILLED = """
import os, signal, sys
from pathlib import Path
from papers_lib.files import replacing
with replacing(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_write_left_goes_with_the_next_write_of_that_file(tmp_path):
    path = tmp_path / "led[g]er"
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    [left] = tmp_path.iterdir()
    others = [tmp_path / left.name.replace("led[g]er", "another"), left.with_suffix(".keep")]
    for other in others:
        other.touch()
    write(path)
    assert sorted(tmp_path.iterdir()) == sorted([*others, path])


def test_a_write_that_is_under_way_is_left_alone(tmp_path):
    path = tmp_path / "file"
    with replacing(path) as first:
        first.write_text("first")
        machine, process, _ = first.name.split(".")[2].split("-")
        living = tmp_path / f".file.{machine}-{os.getppid()}-ab.tmp"
        elsewhere = tmp_path / f".file.ffffffff-{process}-ab.tmp"  # of another machine
        ours = tmp_path / f".file.{machine}-{process}-ab.tmp"  # of an earlier process with our number
        for other in (living, elsewhere, ours):
            other.touch()
        write(path, "second")
        assert first.exists() and living.exists() and elsewhere.exists() and not ours.exists()
        now = first.stat().st_mtime
        for age, stays in ((files.ABANDONED - 60, True), (files.ABANDONED + 60, False)):
            os.utime(elsewhere, (now - age, now - age))
            write(path, "third")
            assert elsewhere.exists() == stays
    assert path.read_text() == "first"


def test_a_writer_of_another_user_lives(tmp_path, monkeypatch):
    left = tmp_path / f".file.{files._HERE}-{os.getppid()}-ab.tmp"
    left.touch()
    for error, stays in ((PermissionError, True), (ProcessLookupError, False)):

        def refuse(process, number, error=error):
            assert number == 0
            raise error

        monkeypatch.setattr(os, "kill", refuse)
        write(tmp_path / "file")
        assert left.exists() == stays


# -- locks --

HOLDS = """
import sys, time
from pathlib import Path
from papers_lib.files import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def held(tmp_path):
    """A lock that another process has, and that process."""
    path = tmp_path / ".lock"
    process = subprocess.Popen([sys.executable, "-c", HOLDS, str(path)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    yield path, process
    process.kill()
    process.wait()


@pytest.mark.parametrize("ours", [True, False])
def test_a_lock_is_free_when_its_holder_is_killed_and_needs_reading_only(held, monkeypatch, ours):
    """Also where the lock file is another user's."""
    (path, process), real = held, os.open

    def denied(name, flags, *rest, **more):
        if Path(name) == path and flags & os.O_ACCMODE != os.O_RDONLY:
            raise PermissionError(errno.EACCES, "denied")
        return real(name, flags, *rest, **more)

    if not ours:
        monkeypatch.setattr(os, "open", denied)
    for timeout in (0, 0.2):
        with pytest.raises(Timeout), locked(path, timeout):
            pass
    process.kill()
    process.wait()
    for _ in range(2):
        with locked(path):
            pass


@pytest.mark.filterwarnings("ignore:flock not supported")
@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks(tmp_path, monkeypatch, code):
    monkeypatch.setattr(fcntl, "flock", raising(code))
    with locked(tmp_path / ".lock"), pytest.raises(Timeout), locked(tmp_path / ".lock", 0.1):
        pass
    with locked(tmp_path / ".lock"):
        pass


def test_another_fault_of_a_lock_is_raised(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", raising(errno.EIO))
    with pytest.raises(OSError, match="not here"), locked(tmp_path / ".lock"):
        pass


def test_a_place_is_absolute_and_what_is_none_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "mine"))
    assert resolve("a") == tmp_path / "a" and resolve("~/a") == tmp_path / "mine" / "a"
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "file").touch()
    assert resolve("link") == tmp_path / "link" and resolve("file/below") == tmp_path / "file" / "below"
    for place, why in (
        ("~nobody-here/x", "no such user's home"),
        ("a\0b", "cannot be a path"),
        ("x" * 999, "cannot be a path"),
    ):
        with pytest.raises(PapersError, match=why) as caught:
            resolve(place)
        assert "\n" not in str(caught.value) and len(str(caught.value)) <= 200
