"""Archives from outside: read to their end, or one line and nothing left behind."""

import io
import itertools
import random
import shutil
import stat
import tarfile
import warnings
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutations import damaged, fuzz
from prepared import content

from data_prep import __main__ as command
from data_prep.archives import inside
from data_prep.sets import DataSet
from papers_lib.errors import PapersError

CONTENT = {
    "train/a.bin": b"a" * 700,
    "train/b.bin": bytes(range(256)) * 5,
    "train/inner/c.bin": random.Random(0).randbytes(600),
    "d/empty.bin": b"",
    "e.txt": b"a list\n",
}
METHODS = {
    "stored": zipfile.ZIP_STORED,
    "deflated": zipfile.ZIP_DEFLATED,
    "bzip2": zipfile.ZIP_BZIP2,
    "lzma": zipfile.ZIP_LZMA,
}
KINDS = (*METHODS, "tar", "tar.gz", "tar.bz2", "tar.xz")


def _zip(*members, method=zipfile.ZIP_STORED, patch=bytes):
    """A zip of names and their bytes; `patch` damages it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that are there twice
        for name, data in members:
            archive.writestr(name, data)
    return patch(file.getvalue())


def _tar(*members, kind="tar", **options):
    """A tar of members: their `data`, and the fields of their headers."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=f"w:{kind[4:]}", **options) as archive:
        for fields in members:
            data, info = fields.get("data", b""), tarfile.TarInfo()
            info.size = len(data)
            for field in fields.keys() - {"data"}:
                setattr(info, field, fields[field])
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def packed(kind, content=CONTENT):
    """`content` as an archive, with a folder of its own."""
    if kind in METHODS:
        return _zip(("train/", b""), *content.items(), method=METHODS[kind])
    files = [{"name": name, "data": data} for name, data in content.items()]
    return _tar({"name": "train", "type": tarfile.DIRTYPE}, *files, kind=kind)


def _survey(folder):
    for base in (folder / "tiny", folder):
        if (base / "train").is_dir():
            return SimpleNamespace(base=base, problems=[], notes=[], sizes={})
    raise PapersError(f"no tiny in {folder}; bring it")


@pytest.fixture
def bring(tmp_path, monkeypatch, capsys):
    """`import` of a data set that is whole when it has `train/`: exit code, and what was said."""
    monkeypatch.setattr(command, "_datasets", lambda: {"tiny": DataSet("tiny", _survey, lambda _: "tiny")})

    def run(source, root=tmp_path / "data"):
        if isinstance(source, bytes):
            (tmp_path / "archive").write_bytes(source)
            source = tmp_path / "archive"
        code = command.main(["import", "tiny", str(source), str(root)])
        said = capsys.readouterr()
        if code:
            assert len((said.err + said.out).splitlines()) == 1
            assert not root.exists() or not list(root.iterdir())
        return code, said.err + said.out

    return run


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_arrives_byte_by_byte(kind, bring, tmp_path):
    assert bring(packed(kind))[0] == 0
    assert content(tmp_path / "data" / "tiny") == CONTENT


@pytest.mark.parametrize("kind", KINDS)
def test_damage_anywhere_is_a_line_or_harmless(kind, bring, tmp_path):
    whole, target = packed(kind), tmp_path / "data" / "tiny"

    @fuzz
    @given(damaged(whole))
    def arrives(raw):
        shutil.rmtree(tmp_path / "data", ignore_errors=True)
        code, said = bring(raw)
        assert code in (0, 2), said
        if code == 0 and kind != "tar":
            assert content(target) == CONTENT
        elif code == 0:  # a plain tar has no checksum of what its files hold
            assert {n: len(d) for n, d in content(target).items()} == {n: len(d) for n, d in CONTENT.items()}

    arrives()


@pytest.mark.parametrize("kind", KINDS)
def test_cut_anywhere_is_a_line(kind, bring, tmp_path):
    whole = packed(kind)
    end = len(whole.rstrip(b"\0")) if kind == "tar" else len(whole) - 1
    for size in range(0, end, 97):
        code, said = bring(whole[:size])
        assert (code, "fetch it again" in said) == (2, True), (size, said)


@pytest.mark.parametrize("kind", KINDS)
def test_what_follows_the_end_is_a_line(kind, bring):
    assert bring(packed(kind) + b"garbage" * 3)[0] == 2
    assert bring(packed(kind) + packed(kind, {"train/f.bin": b"more"}))[0] == 2


def _unix(name, mode):
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info


def _headed(local, central, byte):
    """Another byte in the header of the first member of a zip, and in its entry of the directory."""

    def patch(raw):
        at = raw.index(b"PK\1\2") + central
        return raw[:local] + byte + raw[local + 1 : at] + byte + raw[at + 1 :]

    return patch


def _joined(raw):
    """As `cat a.tar b.tar` makes it, with the first one's end."""
    return raw.rstrip(b"\0") + bytes(-len(raw.rstrip(b"\0")) % 512) + bytes(1024) + raw


A = {"name": "train/a.bin", "data": b"a" * 600}
OUTSIDE = ("/a", "\\a", "//host/a", "a/../../b", "..", "..\\a", "C:\\a", "c:a", "./../a", "a/..")


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (_zip(("train/a", b"1"), patch=_headed(6, 8, b"\1")), "is encrypted"),
        (_zip(("train/a", b"1"), patch=_headed(8, 10, b"\x09")), "packed in a way that is unknown here"),
        (_zip(("train/a", b"1"), ("train/a", b"1")), "'train/a' twice"),
        (_zip(("train/a", b"1"), ("./train//a", b"2")), "'train/a' twice"),
        (_zip(("train", b"1"), ("train/a", b"2")), "is broken"),
        (_zip((_unix("train/l", stat.S_IFLNK | 0o777), b"/etc/passwd")), "neither a file nor a folder"),
        (_zip((_unix("train/f", stat.S_IFIFO | 0o777), b"")), "neither a file nor a folder"),
        (_zip(("train/é", b""), patch=lambda raw: raw.replace("é".encode(), b"\xff\xfe")), "is broken"),
        (_zip((f"train/{'n' * 300}", b"")), "File name too long"),
        *((_zip((name, b"evil")), "reaches outside") for name in OUTSIDE),
        *((_tar({"name": name, "data": b"evil"}, kind="tar.gz"), "reaches outside") for name in OUTSIDE),
        (_tar(A, {"name": "train/l", "type": tarfile.SYMTYPE, "linkname": "a.bin"}), "which is a link"),
        (_tar({"name": "train", "type": tarfile.SYMTYPE, "linkname": "/etc"}), "'train', which is a link"),
        (_tar(A, {"name": "train/l", "type": tarfile.LNKTYPE, "linkname": "gone"}), "'gone', which is not"),
        (_tar({"name": "train/l", "type": tarfile.LNKTYPE, "linkname": "../../a"}), "reaches outside"),
        (_tar(A, {"name": "train/d", "type": tarfile.CHRTYPE}), "neither a file nor a folder"),
        (_tar(A, {"name": "train/p", "type": tarfile.FIFOTYPE}), "neither a file nor a folder"),
        (_tar(A, A), "'train/a.bin' twice"),
        (_tar(A, {"name": "train/\udcff"}, format=tarfile.GNU_FORMAT), "not UTF-8"),
        (_tar(A, {"name": "train/" + 100 * "long/" + 2000 * "n"}), "File name too long"),
        (_tar(A, {"name": "a", "pax_headers": {"size": "-1024"}}, format=tarfile.PAX_FORMAT), "is broken"),
        (_joined(_tar(A)), "something follows its end"),
        (_tar(A)[:1536] + bytes(512) + _tar(A), "something follows its end"),
        (b"\x1f\x8b", "is broken"),
        (b"no archive at all", "neither a folder nor a whole zip or tar"),
        (b"", "neither a folder nor a whole zip or tar"),
    ],
    # by number: of an archive the bytes, which would name a test, hold the second in which it was made
    ids=itertools.count(),
)
def test_what_is_no_plain_archive_is_a_line(raw, words, bring, tmp_path):
    code, said = bring(raw)
    assert (code, words in said) == (2, True), said
    assert {path.name for path in tmp_path.rglob("*")} <= {"archive", "data"}


def test_each_damaged_header_of_a_tar_is_found(bring):
    whole = packed("tar")
    with tarfile.open(fileobj=io.BytesIO(whole)) as archive:
        offsets = [member.offset for member in archive]
    for offset in offsets:
        for change in (b"\xff" * 8, bytes(512)):  # damaged, and overwritten with what means the end
            code, said = bring(whole[:offset] + change + whole[offset + len(change) :])
            assert code == 2, said


def test_a_hard_link_is_the_file_that_it_names(bring, tmp_path):
    link = {"name": "./train/b.bin", "type": tarfile.LNKTYPE, "linkname": "./train/a.bin"}
    assert bring(_tar(A, link, kind="tar.gz"))[0] == 0
    assert content(tmp_path / "data" / "tiny") == {"train/a.bin": A["data"], "train/b.bin": A["data"]}


def test_sparse_zip64_and_long_names_arrive(bring, tmp_path):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive, archive.open("train/a", "w", force_zip64=True) as member:
        member.write(b"zip64")
    assert bring(file.getvalue())[0] == 0
    assert content(tmp_path / "data" / "tiny") == {"train/a": b"zip64"}
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        root = tmp_path / str(form)
        name = "train/" + "/".join(["long" * 20] * 4) + "/é"
        assert bring(_tar({"name": name, "data": b"x"}, format=form), root=root)[0] == 0
        assert content(root / "tiny") == {name: b"x"}


def test_leftovers_dots_and_backslashes(bring, tmp_path):
    names = (".\\top\\train\\a", "./top/train//./b", "top/train/._a", "top/.DS_Store", "__MACOSX/top/._train")
    assert bring(_zip(("./", b""), ("top\\", b""), *((name, name.encode()) for name in names)))[0] == 0
    assert content(tmp_path / "data" / "tiny") == {"train/a": names[0].encode(), "train/b": names[1].encode()}


@given(st.text(alphabet="ab./\\: é\udcff\0", max_size=12))
def test_a_member_name_is_refused_or_stays_inside(name):
    try:
        found = inside(Path("a.zip"), name)
    except PapersError:
        return
    if found is not None:
        assert "\\" not in found and not {"", ".", ".."} & {*found.split("/")}


@pytest.mark.parametrize("kind", ["deflated", "tar", "tar.gz"])
def test_what_has_no_room_on_the_disk_is_refused_before_a_byte_is_written(kind, bring, monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=16 * 4096))
    code, said = bring(packed(kind, CONTENT | {"train/zeros": bytes(20 * 4096)}))
    assert (code, "free some space" in said) == (2, True), said
    folder = tmp_path / "source"
    (folder / "train").mkdir(parents=True)
    (folder / "train" / "zeros").write_bytes(bytes(20 * 4096))
    assert "free some space" in bring(folder)[1]


def test_a_header_that_promises_more_than_there_is_does_not_fill_the_disk(bring):
    member = tarfile.TarInfo("train/a")
    member.size = 1 << 60
    code, said = bring(member.tobuf(tarfile.GNU_FORMAT) + bytes(10240))
    assert (code, "free some space" in said) == (2, True), said
    member.type, member.size = tarfile.GNUTYPE_LONGNAME, 1 << 30
    code, said = bring(member.tobuf(tarfile.GNU_FORMAT) + bytes(10240))
    assert (code, "fetch it again" in said) == (2, True), said
