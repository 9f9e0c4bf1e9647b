"""Person re-identification on disk: sides, ids and cameras, and what is refused. Files have a few bytes."""

import re
from dataclasses import replace

import numpy as np
import pytest
from standins import tell
from tiny_sets import MARKET, MSMT, OFFICIAL, empty, gone, listed, moved, people, put, refused

from papers_lib.datasets import reid, reid_layouts

TRAIN, QUERY, GALLERY = MARKET.values()


def faults(root, name):
    return reid_layouts.survey(root, name, acknowledge_withdrawn=True).problems


def named(side):
    ids, cameras = side.ids.tolist(), side.cameras.tolist()
    return [(f.stem, i, c) for f, i, c in zip(side.files, ids, cameras, strict=True)]


# What is read


def test_market_drops_junk_and_keeps_distractors(tmp_path):
    data = reid.load(people(tmp_path, "market1501"), "market1501")
    assert named(data.train) == [(TRAIN[0], 2, 0), (TRAIN[1], 2, 1), (TRAIN[2], 7, 0), (TRAIN[3], 7, 2)]
    assert named(data.query) == [(QUERY[0], 1, 0), (QUERY[1], 5, 2)]
    assert named(data.gallery) == [(GALLERY[2], 0, 1), (GALLERY[0], 1, 1), (GALLERY[1], 5, 0)]
    assert (data.cameras, data.stand_in, data.root) == (3, True, tmp_path)
    assert data.train.ids.dtype == data.train.cameras.dtype == np.int64
    assert all(file.is_file() for side in (data.train, data.query, data.gallery) for file in side.files)


def test_duke_has_its_own_names(tmp_path):
    data = reid.load(people(tmp_path, "dukemtmc"), "dukemtmc")
    assert named(data.train) == [("0001_c1_f0046200", 1, 0), ("0001_c2_f0046182", 1, 1)]
    assert data.gallery.ids.tolist() == [5, 9, 11]
    assert data.cameras == 2


@pytest.mark.parametrize("name", ["msmt17_v1", "msmt17_v2"])
def test_msmt_trains_on_both_lists_and_numbers_from_zero_twice(name, tmp_path):
    data = reid.load(people(tmp_path, name), name)
    assert [n[5:] for n, _, _ in named(data.train)] == [
        "000_01_0303morning_0008_0",
        "001_03_0113noon_0001_1",
        "000_02_0303morning_0017_2_ex",
    ]
    assert (data.train.ids.tolist(), data.train.cameras.tolist()) == ([0, 0, 1], [0, 2, 1])
    assert (data.query.ids.tolist(), data.gallery.ids.tolist()) == ([0, 1], [0, 1])
    assert data.train.files[0].parts[-3] == ("train" if name == "msmt17_v1" else "mask_train_v2")
    assert data.query.files[0].parts[-3] == ("test" if name == "msmt17_v1" else "mask_test_v2")


def test_the_digest_of_content_sees_names_and_sizes_of_what_is_used(tmp_path):
    root = people(tmp_path, "market1501")
    before = reid.load(root, "market1501").pixels
    put(f"bounding_box_test/{GALLERY[3]}.jpg", "other")(root)
    assert reid.load(root, "market1501").pixels == before
    put(f"query/{QUERY[0]}.jpg", "other")(root)
    changed = reid.load(root, "market1501").pixels
    moved(f"query/{QUERY[0]}.jpg", "query/0001_c1s1_001052_00.jpg")(root)
    assert len({before, changed, reid.load(root, "market1501").pixels}) == 3


def test_an_image_in_no_list_is_left_out_and_noted(tmp_path):
    root = people(tmp_path, "msmt17_v1")
    put("train/0000/0000_009_01_0303morning_0001_0.jpg")(root)
    assert len(reid.load(root, "msmt17_v1").train.files) == 3
    assert any("1 images stand in no list" in n for n in reid_layouts.survey(root, "msmt17_v1").notes)


def test_a_query_that_only_its_own_camera_saw_is_noted(tmp_path):
    gallery = ("0001_c1s1_000001_01", "0005_c1s1_000001_01", "0000_c2s1_000001_02")
    root = people(tmp_path, "market1501", bounding_box_test=gallery)
    assert reid.load(root, "market1501").query.ids.tolist() == [1, 5]
    notes = reid_layouts.survey(root, "market1501").notes
    assert any("1 queries have no match in another camera" in note for note in notes)


# Real copies: counts, and the withdrawn one


@pytest.mark.parametrize("name", list(OFFICIAL))
def test_counts_of_a_real_copy(name, tmp_path, monkeypatch, capsys):
    root = people(tmp_path, name)
    (root / "STANDIN.json").unlink()
    layout = reid_layouts.LAYOUTS[name]
    lines = faults(root, name)
    assert len([line for line in lines if "expected; restore the copy" in line]) == len(lines) >= 6
    there = reid_layouts.survey(root, name, True)
    sizes = [(len(rows), len({r.id for r in rows})) for rows in there.sides.values()]
    tiny = reid_layouts.Counts(*sizes, there.cameras, there.junk)
    monkeypatch.setitem(reid_layouts.LAYOUTS, name, replace(layout, counts=tiny))
    data = reid.load(root, name, acknowledge_withdrawn=True)
    assert not data.stand_in
    assert ("withdrawn" in capsys.readouterr().err) == (name == "dukemtmc")
    junk = replace(tiny, junk=tiny.junk + 1, gallery=(sizes[2][0], 99))
    monkeypatch.setitem(reid_layouts.LAYOUTS, name, replace(layout, counts=junk))
    assert faults(root, name) == [
        f"{name} has {sizes[2][1]} gallery identities, 99 expected; restore the copy in {root}",
        f"{name} has {tiny.junk} junk images, {tiny.junk + 1} expected; restore the copy in {root}",
    ]


def test_published_counts_add_up():
    counts = {name: reid_layouts.LAYOUTS[name].counts for name in OFFICIAL}
    market, msmt = counts["market1501"], counts["msmt17_v1"]
    assert market.gallery[0] + market.junk == 19_732
    assert msmt == counts["msmt17_v2"]
    assert msmt.train[0] + msmt.query[0] + msmt.gallery[0] == 126_441
    assert msmt.train[0] == 30_248 + 2_373
    assert [counts[n].cameras for n in OFFICIAL] == [6, 8, 15, 15]


def test_standin_of_another_set_and_of_none(tmp_path):
    root = people(tmp_path, "market1501")
    tell(root, "pedestrians_many", {"train": 4, "query": 2, "gallery": 4})
    assert reid.load(root, "pedestrians_many").name == "pedestrians_many"
    (root / "STANDIN.json").unlink()
    line = refused(reid.load, root, "pedestrians_many")
    assert "has no STANDIN.json, and pedestrians_many is never a real data set" in line
    gone("query", "bounding_box_*")(root)
    line = refused(reid.load, root, "pedestrians_many")
    assert "; render it: python -m data_prep make pedestrians_many" in line
    assert "-p images FOLDER" in refused(reid.load, root, "reid_from_images")


# What is refused


@pytest.mark.parametrize(("there", "asked"), [("msmt17_v1", "msmt17_v2"), ("msmt17_v2", "msmt17_v1")])
@pytest.mark.parametrize("inside", ["", "official", "name"])
def test_v1_is_never_read_as_v2(there, asked, inside, tmp_path):
    people(tmp_path / {"official": OFFICIAL[there], "name": there}.get(inside, ""), there)
    assert f"belongs to {there}, whose results differ; use that name" in refused(reid.load, tmp_path, asked)


@pytest.mark.parametrize(("there", "asked"), [("market1501", "dukemtmc"), ("dukemtmc", "market1501")])
def test_market_is_never_read_as_duke(there, asked, tmp_path):
    root = people(tmp_path, there)
    (root / "STANDIN.json").unlink()
    lines = faults(root, asked)
    assert len(lines) == 3
    assert all(f"names is of {asked}" in line for line in lines)


def renamed(cameras):
    """Number the cameras 1, 2, 3 anew, in the names of all images."""

    def change(root):
        for path in sorted(root.rglob("*.jpg")):
            new = re.sub(r"_c(\d)", lambda found: f"_c{cameras[int(found[1]) - 1]}", path.name)
            path.rename(path.with_name("." + new))
        for path in sorted(root.rglob(".*.jpg")):
            path.rename(path.with_name(path.name[1:]))

    return change


TRAIN_FOLDER, _, TEST_FOLDER = MARKET
NO_CAMERA = "has no camera in its name; rename it as in 0002_c1s1"
NO_NAME = "has a name that tells no identity"
JUNK = "is a distractor or junk (identity {}), which only the gallery may have"
NAMES_REFUSED = {
    "query/0005s1_000001_00.jpg": NO_NAME,
    "query/holiday.png": NO_NAME,
    "query/0005_000451_03.jpg": NO_CAMERA,
    f"{TEST_FOLDER}/-1_s1_000451_03.jpg": NO_CAMERA,
    "query/-1_c1s1_000001_09.jpg": JUNK.format(-1),
    f"{TRAIN_FOLDER}/0000_c1s1_000001_09.jpg": JUNK.format(0),
    f"query/{QUERY[0]}.png": f"has the same name as query/{QUERY[0]}.jpg",
}
MARKET_FAULTS = [
    *((put(file), f"{file} {words}") for file, words in NAMES_REFUSED.items()),
    *((gone(folder), f"{folder}/ missing in") for folder in MARKET),
    *((empty(folder), f"{folder} holds no image; restore its images") for folder in MARKET),
    (renamed("146"), "cameras are 1, 4, 6, with 2, 3, 5 missing"),
    (renamed("234"), "cameras are 2, 3, 4, with 1 missing"),
    (renamed("012"), "cameras are 0, 1, 2, with 0 among them"),
    (renamed("111"), "has one camera, and a query is only matched across cameras"),
    (gone(f"*/{GALLERY[1]}.jpg"), "identity 5 has 1 images in the query and none in the gallery"),
    (gone(f"*/{TRAIN[0]}.jpg"), "market1501 has 3 train images, 4 expected; restore the copy in"),
]


FIRST, SECOND = (f"{stem}.jpg" for stem in MSMT["list_train"])
LINES_REFUSED = {
    "0000/0000_999_01_0303morning_0008_0.jpg 0": "train/0000/0000_999_01_0303morning_0008_0.jpg is missing",
    "../../etc/0000/0000_000_01_x.jpg 0": "'../../etc/0000/0000_000_01_x.jpg 0' is not folder/name",
    "0000/0000_000_01_0303morning_0008_0.jpg": "'0000/0000_000_01_0303morning_0008_0.jpg' is not",
    "\x00\x01": r"'\x00\x01' is not folder/name and identity",
    f"{SECOND} 7": f"train/{SECOND} is listed as identity 7; name",
    f"{FIRST} 0": f"train/{FIRST} is listed again, first in list_train",
}
NO_CAMERA_LISTED = "0000/0000_001_0113noon_0001_1.jpg"
MSMT_FAULTS = [
    *((listed("list_val.txt", line), f"list_val.txt, line 2: {say}") for line, say in LINES_REFUSED.items()),
    (listed("list_val.txt", f"{NO_CAMERA_LISTED} 0"), f"{NO_CAMERA_LISTED} has no camera in its name"),
    (listed("list_gallery.txt", f"{MSMT['list_query'][1]}.jpg 1"), "listed again, first in list_query.txt"),
    *((put(f"{name}.txt", "\n"), f"{name}.txt lists no image") for name in MSMT),
    *((gone(f"{name}.txt"), f"half a data set: {name}.txt missing") for name in MSMT),
    (gone("test"), "half a data set: test/ missing in"),
    (empty("test"), "/test holds no image; restore its images"),
]


FAULTS = [("market1501", *row) for row in MARKET_FAULTS] + [("msmt17_v1", *row) for row in MSMT_FAULTS]


@pytest.mark.parametrize(("name", "damage", "words"), FAULTS)
def test_what_is_wrong_is_a_line(name, damage, words, tmp_path):
    root = people(tmp_path, name)
    damage(root)
    problems = faults(root, name)
    assert len([line for line in problems if words in line]) == 1
    assert refused(reid.load, root, name).startswith(problems[0])


def test_lists_read_on_windows(tmp_path):
    root = people(tmp_path, "msmt17_v1")
    before = reid.load(root, "msmt17_v1").fingerprint
    for path in root.glob("*.txt"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert reid.load(root, "msmt17_v1").fingerprint == before
