"""`.rec`, `.idx`, `.lst`, `property` and `.bin`: what is read, and one line for each way they are broken."""

import os
import pickle
import struct
import subprocess
import sys

import numpy as np
import pytest
from tiny_sets import gone, put, refused

from data_prep.faces import framed, write_pack
from papers_lib.datasets.face_records import MAGIC, RecordFile, read_bin, read_index, read_list, read_pack

IMAGES = [(0, b"a"), (0, b"bb" + MAGIC), (1, b"..." + MAGIC * 2 + b"end")]
IMAGES += [(2, MAGIC), (2, b"x" * 9), (2, b"y")]


@pytest.fixture
def folder(tmp_path):
    write_pack(tmp_path, IMAGES, 16)
    return tmp_path


def scalar(label, key, image):
    """A record with one label, as most packs have it."""
    return struct.pack("<IfQQ", 0, label, key, 0) + image


def several(key, *labels):
    """A record with some labels and no image: a header, or an identity."""
    return struct.pack(f"<IfQQ{len(labels)}f", len(labels), 0, key, 0, *labels)


def write(folder, *records):
    """A pack of keys and their records."""
    offset, lines = 0, []
    with (folder / "train.rec").open("wb") as file:
        for key, payload in records:
            lines.append(f"{key}\t{offset}\n")
            offset += file.write(framed(payload))
    (folder / "train.idx").write_text("".join(lines))
    (folder / "property").unlink(missing_ok=True)


def test_every_image_comes_back_with_its_identity_even_one_with_the_magic_word(folder):
    pack = read_pack(folder)
    assert [pack.image(i) for i in range(len(pack))] == [image for _, image in IMAGES]
    assert pack.labels.tolist() == [label for label, _ in IMAGES]
    assert (pack.identities, pack.side) == (3, (16, 16))
    record = pack.file.record(int(pack.offsets[3]))
    assert (record.labels, record.key) == ((2.0, 1.0), 4)


@pytest.mark.parametrize(
    "payload", [b"", b"abcd", MAGIC, MAGIC * 3, b"abcd" + MAGIC, b"ab" + MAGIC + b"cdef" + MAGIC + b"x"]
)
def test_a_record_is_split_where_the_magic_word_stands_on_four_bytes(payload, tmp_path):
    """Against the plain rule: no part holds the magic word on four bytes, and joined they are the payload."""
    (tmp_path / "a.rec").write_bytes(framed(b"before!!") + framed(payload) + framed(b"after"))
    file = RecordFile(tmp_path / "a.rec")
    start = file.end(0)
    assert file.payload(start) == payload
    assert file.payload(file.end(start)) == b"after"
    assert file.end(file.end(start)) == file.size
    assert all(framed(payload)[i : i + 4] != MAGIC for i in range(4, 8))


KINDS = {  # records, the images in the order of reading, and their labels
    "no header, and labels of its own": (
        [(10 + i, scalar(label, 10 + i, bytes([i]))) for i, label in enumerate([7, 3, 3, 9])],
        [b"\0", b"\1", b"\2", b"\3"],
        [1, 0, 0, 2],
    ),
    "a header without labels and image": (
        [(0, scalar(0, 0, b"")), (1, scalar(5, 1, b"a")), (2, scalar(6, 2, b"b"))],
        [b"a", b"b"],
        [0, 1],
    ),
    "identities in any order": (
        [(key, scalar(label, key, bytes([key]))) for key, label in enumerate([4, 4, 2], 1)]
        + [(0, several(0, 4, 6)), (4, several(4, 3, 4)), (5, several(5, 1, 3))],
        [b"\3", b"\1", b"\2"],
        [0, 1, 1],
    ),
    "as shuffle_rec.py writes it: keys from 0, the records' own as they were": (
        [(i, scalar(label, 9 - i, bytes([i]))) for i, label in enumerate([7, 3, 7])],
        [b"\0", b"\1", b"\2"],
        [1, 0, 1],
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_packs_of_other_kinds_are_read(kind, tmp_path):
    records, images, labels = KINDS[kind]
    write(tmp_path, *records)
    pack = read_pack(tmp_path)
    assert [pack.image(i) for i in range(len(pack))] == images
    assert pack.labels.tolist() == labels
    assert (pack.identities, pack.side) == (max(labels) + 1, None)


def test_records_beyond_four_gigabytes_are_read(tmp_path):
    far = 5 * 2**30
    with (tmp_path / "train.rec").open("wb") as file:
        file.write(framed(scalar(0, 1, b"near")))
        file.truncate(far)  # a hole: nothing of it is on disk
        file.seek(far)
        file.write(framed(scalar(1, 2, b"far")))
    (tmp_path / "train.idx").write_text(f"1\t0\n2\t{far}\n")
    pack = read_pack(tmp_path)
    assert [pack.image(i) for i in range(2)] == [b"near", b"far"]


# Packs that are refused


def reindexed(change):
    """Another table of keys and offsets [K, 2]."""

    def damage(folder):
        table = change(np.stack(read_index(folder / "train.idx"), axis=1))
        np.savetxt(folder / "train.idx", table, fmt="%d", delimiter="\t")

    return damage


def with_offsets_of(*rows):
    """Keys with the offsets of other rows."""
    return reindexed(lambda table: np.stack([table[:, 0], table[rows, 1]], axis=1))


def patched(key, inside, content):
    """Other bytes in the record of a key, some bytes behind its begin."""

    def damage(folder):
        keys, offsets = read_index(folder / "train.idx")
        with (folder / "train.rec").open("r+b") as file:
            file.seek(int(offsets[keys == key][0]) + inside)
            file.write(content)

    return damage


def packed(*records):
    return lambda folder: write(folder, *records)


def people(*ranges):
    """Four images with labels 0, 1, 0, 0, and the first key and the last + 1 of two identities."""
    images = [(key, scalar(label, key, b"a")) for key, label in enumerate([0, 1, 0, 0], 1)]
    identities = [(key, several(key, *keys)) for key, keys in enumerate(ranges, 5)]
    return packed(*images, (0, several(0, 5, 7)), *identities)


IMAGE = (1, scalar(0, 1, b"a"))
LARGE = (1e30, -1e19, float("inf"))
HEADERS = ((0, 0), (1, 1), (1, 2), (2, 2), (-5, 2), (-5, -2))
INDICES = ("", "1\t2\t3", "1\t-2", "one\ttwo", "1\t99999999999999999999")
REFUSED = [
    (put("train.idx", f"1\t0\n0\t{5 * 2**30}\n"), "5,368,709,120; tools that unpack no more than 4 GiB"),
    (put("train.rec", ""), "zero bytes"),
    (patched(1, 0, b"\1\2\3\4"), "no record (magic 0x04030201, not 0xced7230a) at byte 0"),
    (patched(1, 0, b"\1\2\3\4"), ".idx is of another file"),
    (with_offsets_of(-1, *range(9)), "leaves none"),
    (with_offsets_of(0, 2, 1, *range(3, 10)), "images 1 and 2 are of one identity and have labels 0 and 1"),
    (reindexed(lambda table: table + np.array([0, 4])), "no record"),
    (reindexed(lambda table: table[:-1]), "follow the last record"),
    (reindexed(lambda table: np.delete(table, 1, axis=0)), "announces keys 1 to 9, and its .idx has no 2"),
    (reindexed(lambda table: table[[*range(10), 0]]), "has a key twice"),
    *(
        (patched(8, 8 + 24, struct.pack("<2f", *labels)), "key 8: an identity without images")
        for labels in ((3, 3), (3, 2), (0, 2), (3, 99))
    ),
    (patched(1, 8 + 24, struct.pack("<f", float("nan"))), "a label of nan at byte 0"),
    *((packed((1, scalar(label, 1, b"a"))), f"a label of {label:g} at byte 0") for label in LARGE),
    *((packed(IMAGE, (0, several(0, label, label))), f"a label of {label:g} at byte") for label in LARGE),
    *(
        (packed(IMAGE, (0, several(0, *keys))), "before key {} and identities before key {},".format(*keys))
        for keys in HEADERS
    ),
    (packed((0, scalar(1, 0, b""))), "has no image, only a header"),
    (people((1, 5), (2, 3)), "the images 2 to 4 are of two identities"),
    (people((1, 2), (3, 5)), "the images 2 to 2 are of no identity"),
    (people((3, 5), (2, 3)), "the images 1 to 1 are of no identity"),
    (people((1, 2), (2, 4)), "the images 4 to 4 are of no identity"),
    (put("property", "4,16,16"), "says 4 identities"),
    *((put("property", text), '"identities,height,width", each from 1') for text in ("three", "3,0,0")),
    *((put("train.idx", text), 'no list of "key offset" lines') for text in INDICES),
    (gone("train.rec"), "train.rec cannot be read"),
    (gone("train.idx"), "train.idx cannot be read"),
]


@pytest.mark.parametrize(("damage", "words"), REFUSED)
def test_what_is_wrong_with_a_pack_is_a_line(damage, words, folder):
    damage(folder)
    assert words in refused(read_pack, folder)


def test_truncated_anywhere_is_one_line(folder):
    whole = (folder / "train.rec").read_bytes()
    for size in range(1, len(whole), 7):
        (folder / "train.rec").write_bytes(whole[:size])
        assert "cut short" in refused(read_pack, folder)


def test_a_middle_part_is_no_record(folder):
    pack = read_pack(folder)
    inner = int(pack.offsets[3]) + 8 + 32  # the part after the head; IMAGES[3] is the magic word alone
    assert "the middle of a record" in refused(pack.file.payload, inner)


def test_an_image_of_another_identity_is_told_when_it_is_read(tmp_path):
    """The index has two keys exchanged, neither of which is the first or last of its identity."""
    write_pack(tmp_path, [(0, b"a"), (0, b"b"), (0, b"c"), (1, b"d"), (1, b"e"), (1, b"f")], 16)
    with_offsets_of(0, 4, 2, 3, 1, *range(5, 9))(tmp_path)
    pack = read_pack(tmp_path)
    assert pack.image(0) == b"a"
    assert "train.rec, image 1 has label 1 among those of 0; its .idx is out" in refused(pack.image, 1)


# Indices and lists


def test_an_index_is_taken_as_it_stands(tmp_path):
    (tmp_path / "a.idx").write_text("3\t40\r\n1\t0\r\n")
    found, offsets = read_index(tmp_path / "a.idx")
    assert (found.tolist(), offsets.tolist()) == ([3, 1], [40, 0])


def test_lists_of_both_orders(tmp_path):
    path = tmp_path / "a.lst"
    for text in ("1\tp/a 1.jpg\t4\n1\tq.jpg\t5\n\n", "0\t4.000\tp/a 1.jpg\n1\t5.0\tq.jpg\n"):
        path.write_text(text)
        paths, labels = read_list(path)
        assert (paths, labels.tolist()) == (["p/a 1.jpg", "q.jpg"], [4, 5])
    for wrong in ("from elsewhere", "2\tb.jpg\tinf", "2\tb.jpg\t1e300", "2\tinf\tb.jpg", "2\tb.jpg\tnan"):
        path.write_text(f"1\ta.jpg\t4\n{wrong}\n")
        assert 'a.lst, line 2: not "number path label" between tabs' in refused(read_list, path)


# Pairs


def pairs(path, content, protocol=4):
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


def test_pairs_of_bytes_arrays_and_numpy_booleans(tmp_path):
    images = [b"a", np.frombuffer(b"bc", dtype=np.uint8), b"d", b"e"]
    for protocol in range(6):
        for same in ([True, False], [1, 0], [np.bool_(True), np.bool_(False)], np.array([True, False])):
            files, found = read_bin(pairs(tmp_path / "a.bin", (images, same), protocol))
            assert files == (b"a", b"bc", b"d", b"e")
            assert found.tolist() == [True, False]
    # as Python 2 wrote it: a list of two short strings and a list of one boolean
    (tmp_path / "a.bin").write_bytes(b"(]q\x00(U\x01\xffq\x01U\x01bq\x02e]q\x03\x88atq\x04.")
    files, found = read_bin(tmp_path / "a.bin")
    assert (files, found.tolist()) == ((b"\xff", b"b"), [True])


class Evil:
    def __reduce__(self):
        return os.mkdir, ("run",)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_malicious_pickle_is_refused_and_never_run(protocol, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = refused(read_bin, pairs(tmp_path / "lfw.bin", ([Evil(), b"b"], [True]), protocol))
    assert "lfw.bin is refused" in line and "mkdir" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (([b"a", b"b", b"c"], [True]), "3 images for 1 pairs"),
        (([], []), "0 images for 0 pairs"),
        (([10**15, 3], [True]), "a int where the bytes of an image should be"),
        (([np.zeros(3), b"b"], [True]), "a ndarray where the bytes of an image should be"),
        (([b"a"] * 4, [2, -1]), "an answer of 2 where True or False should be"),
        (([b"a"] * 4, [True, float("nan")]), "an answer of nan where"),
        (([b"a"] * 4, ["False", "True"]), "an answer of 'False' where"),
        (([b"a"] * 4, np.array([0, 2])), "an answer of 2 where"),
        (([b"a"] * 4, np.zeros((2, 2))), "an answer of [0.0, 0.0] where"),
        (([b"a"] * 4, np.array([True, None])), "asks for an array of 'O8'"),
        (([b"a"] * 4, None), "not a whole pickle of pairs"),
        ([b"a"], "not a whole pickle of pairs"),
        ("text", "not a whole pickle of pairs"),
    ],
)
def test_pickles_of_something_else_are_one_line(content, says, tmp_path):
    assert says in refused(read_bin, pairs(tmp_path / "lfw.bin", content))


EIGHT = b"cnumpy\ndtype\n(S'V8'\nI00\nI01\ntR"
OBJECT = EIGHT.replace(b"V8", b"O8")
BYTES = EIGHT.replace(b"V8", b"u1")
SUBARRAY = b"(I3\nS'|'\n(" + OBJECT + b"(I1\nttNNI8\nI1\nI0\ntb"
FIELDS = b"(I3\nS'|'\nN(S'f0'\ntdS'f0'\n(" + OBJECT + b"I0\ntsI8\nI1\nI0\ntb"
SIZE = b"(I3\nS'|'\nNNNI1000000\nI1\nI0\ntb"
CONTENT = b"S'AAAAAAAABBBBBBBB'\n"
REBUILT = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I2\nt%bI00\n"
REBUILT += CONTENT
ARRAYS = [
    b"cnumpy\nndarray\n((I2\nt" + EIGHT + SUBARRAY + CONTENT + b"tR",
    b"cnumpy\nndarray\n((I2\nt" + BYTES + CONTENT + b"I0\n(I1000000000000\nttR",
    REBUILT % (EIGHT + SUBARRAY) + b"tb",
    REBUILT % (EIGHT + FIELDS) + b"tb",
    REBUILT % (BYTES + SUBARRAY) + b"tb",
    REBUILT % (BYTES + FIELDS) + b"tb",
    REBUILT % (BYTES + SIZE) + b"tb",
    REBUILT % OBJECT + b"tb",
    b"cnumpy.core.multiarray\nscalar\n(" + OBJECT + b"S'AAAAAAAA'\ntR",
    b"cnumpy.core.multiarray\nscalar\n(" + EIGHT + FIELDS + b"S'AAAAAAAA'\ntR",
    b"cnumpy.core.numeric\n_frombuffer\n(" + CONTENT + EIGHT + SUBARRAY + b"(I2\ntS'C'\ntR",
]
READ = """
import sys
from pathlib import Path
from papers_lib.datasets.cifar_files import BATCHES, read
from papers_lib.datasets.face_records import read_bin
from papers_lib.errors import PapersError

for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        print(read_bin(path) if path.suffix else read(path, BATCHES["cifar10", "python"]))
    except PapersError as error:
        print("refused:", error, flush=True)
"""


def test_no_bytes_of_a_file_become_addresses(tmp_path):
    """In a process of its own: with numpy's own dtype and array some of these crash it."""
    for i, array in enumerate(ARRAYS):
        (tmp_path / f"{i}.bin").write_bytes(b"((l" + array + b"a(I01\nlt.")
        (tmp_path / f"{i}").write_bytes(b"(S'data'\n" + array + b"S'labels'\n]d.")
    command = [sys.executable, "-c", READ, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done
    assert [line[:9] for line in done.stdout.splitlines()] == ["refused: "] * 2 * len(ARRAYS)


def test_a_truncated_pickle_is_one_line(tmp_path):
    path = tmp_path / "lfw.bin"
    assert "cannot be read" in refused(read_bin, path)
    whole = pairs(path, ([b"a" * 300, b"b"], [True])).read_bytes()
    for raw in (b"PK\x03\x04aaaa", *(whole[:size] for size in range(0, len(whole), 11))):
        path.write_bytes(raw)
        line = refused(read_bin, path)
        assert "lfw.bin is" in line and "pickle of pairs" in line
