"""Tiny data sets in every layout, written by hand: what a file holds tells what it is."""

import json
import pickle
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image
from standins import tell

from data_prep import faces
from papers_lib.datasets import voc
from papers_lib.datasets.cifar_files import BATCHES
from papers_lib.errors import PapersError

# -- cars: six classes, and every pixel tells its class --

CLASSES = (
    "Alder Otter Sedan 2001",
    "Brisk C/V Cargo Van 2002",
    "Corvin Lynx Sedan 2003",
    "Dovetail R9 2004",
    "Ember Vole Van 2005",
    "Fjord Hare Sedan 2006",
)
TRAINING = CLASSES[:3]
TYPES = ("Sedan", "Van", "Sedan", "R9", "Van", "Sedan")
STYLES = ("Sedan", "Van", "Sedan", "Van", "Van", "Sedan")
HALVES = ((2, 3, 2, 1, 2, 2), (2, 1, 2, 2, 3, 1))  # images of each class in the official halves


def grey(label):
    return 30 + 35 * CLASSES.index(label)


def paint(path, label):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 8), (grey(label),) * 3).save(path, quality=95)


def structs(rows):
    table = np.empty((1, len(rows)), dtype=[(name, object) for name in rows[0]])
    for i, row in enumerate(rows):
        table[0, i] = tuple(row.values())
    return table


def tell_cars(root):
    counts = {"cars196": [a + b for a, b in zip(*HALVES, strict=True)], "cars196_half": HALVES[0]}
    coarse = {"type22": TYPES, "body9": STYLES}
    root.mkdir(parents=True, exist_ok=True)
    tell(root, "cars196", counts, recipe={}, classes=CLASSES, training=TRAINING, coarse=coarse)


def annotation(number, **rest):
    """The order of the devkit's files, which is not the order of its description."""
    return {"bbox_x1": 2, "bbox_y1": 3, "bbox_x2": 11, "bbox_y2": 7, "class": number, **rest}


def devkit(root, ids=CLASSES):
    """Layout A; `ids` is the numbering of this copy."""
    tell_cars(root)
    (root / "devkit").mkdir()
    scipy.io.savemat(root / "devkit" / "cars_meta.mat", {"class_names": np.array([list(ids)], dtype=object)})
    places = ("cars_train", "devkit/cars_train_annos"), ("cars_test", "cars_test_annos_withlabels")
    for counts, (folder, file) in zip(HALVES, places, strict=True):
        labels = [label for label, n in zip(CLASSES, counts, strict=True) for _ in range(n)]
        rows = []
        for i, label in enumerate(labels[::-1]):  # not in class order
            paint(root / folder / f"{i + 1:05d}.jpg", label)
            rows.append(annotation(ids.index(label) + 1, fname=f"{i + 1:05d}.jpg"))
        scipy.io.savemat(root / f"{file}.mat", {"annotations": structs(rows)})
    return root


def one_folder(root, ids=CLASSES):
    """Layout B."""
    tell_cars(root)
    rows = []
    for test, counts in enumerate(HALVES):
        for label, n in zip(CLASSES, counts, strict=True):
            for _ in range(n):
                file = f"car_ims/{len(rows) + 1:06d}.jpg"
                paint(root / file, label)
                rows.append({"relative_im_path": file, **annotation(ids.index(label) + 1, test=test)})
    names = np.array([list(ids)], dtype=object)
    scipy.io.savemat(root / "cars_annos.mat", {"annotations": structs(rows), "class_names": names})
    return root


def class_folders(root, ids=CLASSES, places=("images", "images")):
    """Layout C, `<place>/<class name>/`, a place for each official half."""
    tell_cars(root)
    for half, (place, counts) in enumerate(zip(places, HALVES, strict=True)):
        for label in ids:
            for i in range(counts[CLASSES.index(label)]):
                paint(root / place / label.replace("/", "-") / f"{half}{i:03d}.jpg", label)
    return root


KAGGLE = ("car_data/car_data/train", "car_data/car_data/test")
LAYOUTS = {"A": devkit, "B": one_folder, "C": class_folders, "kaggle": partial(class_folders, places=KAGGLE)}

# -- classification: the grey tells class and number --

ANIMALS = ("ant", "bee", "cat")
PER_CLASS, HELD_OUT = 5, 2  # images of each class


def shade(side, label, number):
    return 60 * label + 10 * number + (5 if side == "test" else 0)


def tell_classes(root, name="cifar10", train=15, test=6, classes=3):
    tell(root, name, {"train": train, "test": test, "classes": classes})
    return root


def folders(root, test="test", suffix="png"):
    for side, folder, count in (("train", "train", PER_CLASS), ("test", test, HELD_OUT)):
        for label, name in enumerate(ANIMALS):
            (root / folder / name).mkdir(parents=True)
            for i in range(count):
                picture = Image.new("RGB", (8, 8), (shade(side, label, i),) * 3)
                picture.save(root / folder / name / f"{i:04d}.{suffix}")
    return tell_classes(root)


def flat(root):
    """As OpenSelfSup has ImageNet: val/ without class folders, and a list."""
    folders(root, "val")
    rows = []
    for label, name in enumerate(ANIMALS):
        for file in sorted((root / "val" / name).iterdir()):
            other = f"{file.stem}_{2 - label}.png"
            file.rename(root / "val" / other)
            rows.append(f"{other} {label}\n")
        (root / "val" / name).rmdir()
    (root / "meta").mkdir()
    (root / "meta" / "val_labeled.txt").write_text("".join(rows))
    return tell_classes(root, "imagenet")


def published(root, name, kind, images=4):
    """CIFAR's own files with `images` in each; red is the label, green the row, blue the column."""
    batches = BATCHES[name, kind]
    root.mkdir(parents=True)
    for file in (*batches.train, *batches.test):
        labels = [(i + len(file)) % 3 for i in range(images)]
        pixels = np.stack([ramp(label) for label in labels]).transpose(0, 3, 1, 2).reshape(images, -1)
        if kind == "python":
            content = {batches.labels: labels, "data": pixels, "filenames": ["x"] * images}
            (root / file).write_bytes(pickle.dumps(content, protocol=2))
        else:
            heads = np.array([[7, label][2 - batches.head :] for label in labels], dtype=np.uint8)
            (root / file).write_bytes(np.concatenate([heads, pixels], 1).tobytes())
    if kind == "python":
        (root / batches.meta).write_bytes(pickle.dumps({batches.names: list(ANIMALS)}, protocol=2))
    else:
        (root / batches.meta).write_text("\n".join(ANIMALS) + "\n\n")
    return tell_classes(root, name, images * len(batches.train), images)


def ramp(label):
    pixels = np.zeros((32, 32, 3), dtype=np.uint8)
    pixels[..., 0], pixels[..., 1], pixels[..., 2] = label, np.arange(32)[:, None], np.arange(32)
    return pixels


# -- people: files have a few bytes --

TRAIN = ("0002_c1s1_000451_03", "0002_c2s1_000776_01", "0007_c1s1_000001_01", "0007_c3s3_000001_02")
QUERY = ("0001_c1s1_001051_00", "0005_c3s1_001051_00")
GALLERY = ("0001_c2s1_000001_01", "0005_c1s1_000001_01", "0000_c2s1_000001_02", "-1_c3s2_000001_03")
MARKET = {"bounding_box_train": TRAIN, "query": QUERY, "bounding_box_test": GALLERY}
DUKE = {
    "bounding_box_train": ("0001_c2_f0046182", "0001_c1_f0046200"),
    "query": ("0005_c1_f0000001", "0009_c2_f0000002"),
    "bounding_box_test": ("0005_c2_f0000003", "0009_c1_f0000004", "0011_c1_f0000005"),
}
MSMT = {
    "list_train": ("0000/0000_000_01_0303morning_0008_0", "0001/0001_000_02_0303morning_0017_2_ex"),
    "list_val": ("0000/0000_001_03_0113noon_0001_1",),
    "list_query": ("0000/0000_000_02_0303morning_0008_0", "0001/0001_001_03_0303morning_0001_0"),
    "list_gallery": ("0000/0000_001_03_0303morning_0008_0", "0001/0001_000_01_0303morning_0001_0"),
}
KIND = {"market1501": MARKET, "dukemtmc": DUKE, "msmt17_v1": MSMT, "msmt17_v2": MSMT}
OFFICIAL = {
    "market1501": "Market-1501-v15.09.15",
    "dukemtmc": "DukeMTMC-reID",
    "msmt17_v1": "MSMT17_V1",
    "msmt17_v2": "MSMT17_V2",
}


def write(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(path.name.encode())


def people(base, name, **changed):
    """A tiny stand-in of `name`, with single folders or lists of other files."""
    files = KIND[name] | changed
    for place, stems in files.items():
        if not name.startswith("msmt"):
            for stem in stems:
                write(base / place / f"{stem}.jpg")
            continue
        side = "train" if place in ("list_train", "list_val") else "test"
        folder = side if name == "msmt17_v1" else f"mask_{side}_v2"
        for stem in stems:
            write(base / folder / f"{stem}.jpg")
        lines = [f"{stem}.jpg {int(stem.split('/')[0])}\n" for stem in stems]
        (base / f"{place}.txt").write_text("".join(lines))
    told = [len(stems) for stems in files.values()]
    train, query, gallery = told if len(told) == 3 else (told[0] + told[1], *told[2:])
    tell(base, name, {"train": train, "query": query, "gallery": gallery})
    return base


# -- SYSU-30k --

INSIDE = "SYSU-30k-released/SYSU-30k-released"


def bags(root, inside=INSIDE):
    """Three bags of 2, 3 and 4 images; two queries; a gallery with three distractors."""
    base = root / inside
    files = [
        f"sysu_train_set_all/{bag:010d}/{bag:010d}_c1_{i}.jpg" for bag in (1, 2, 3) for i in range(bag + 1)
    ]
    for who in ("000028311", "000028312"):
        files += [f"sysu_test_set_all/query/{who}/{who}_c2_2.jpg"]
        files += [f"sysu_test_set_all/gallery/{who}/{who}_c1_1.jpg"]
    files += [f"sysu_test_set_all/gallery/0000others/0000others_c{1 + i % 2}_{i}.jpg" for i in range(3)]
    for file in files:
        (base / file).parent.mkdir(parents=True, exist_ok=True)
        (base / file).write_bytes(file.encode())
    (base / "meta").mkdir()
    for side in ("train", "query", "gallery"):
        names = [f for f in files if f"/{side}/" in f or (side == "train" and "_train_" in f)]
        (base / "meta" / f"{side}.txt").write_text("".join(f"{Path(n).name}\n" for n in names))
    tell(root, "sysu30k", {"bags": 3, "query": 2, "gallery": 5, "distractors": 3})
    return root


# -- scenes --

SQUARE = [[2, 3, 12, 3, 12, 9, 2, 9]]


def instance(number, image, category, **changes):
    box = {"bbox": [2, 3, 10, 6], "area": 60, "iscrowd": 0, "segmentation": SQUARE}
    return {"id": number, "image_id": image, "category_id": category, **box, **changes}


def coco_scenes(base):
    """Three training images and one test image, categories 3 and 7."""
    crowd = {"size": [20, 30], "counts": [20 * 4 + 5, 3, 17, 3, 600 - 108]}
    annotations = {
        "train2017": [
            instance(1, 9, 7),
            instance(2, 9, 3, iscrowd=1, segmentation=crowd, bbox=[4, 5, 2, 3]),
            instance(3, 5, 3),
        ],
        "val2017": [instance(1, 4, 7)],
    }
    for folder, numbers in (("train2017", (9, 5, 6)), ("val2017", (4,))):
        (base / folder).mkdir(parents=True)
        for number in numbers:
            Image.new("RGB", (30, 20), (number * 9, 0, 0)).save(base / folder / f"{number:012d}.jpg")
        content = {
            "images": [{"id": n, "file_name": f"{n:012d}.jpg", "height": 20, "width": 30} for n in numbers],
            "annotations": annotations[folder],
            "categories": [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}],
        }
        path = base / "annotations" / f"instances_{folder}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
    tell(base, "coco2017", {"train": 3, "test": 1}, classes=["dog", "cat"])
    return base


OBJECT = (
    "<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmax>{x2}</xmax><xmin>{x1}</xmin>"
    "<ymin>{y1}</ymin><ymax>{y2}</ymax></bndbox></object>"
)
LISTS = {
    ("VOC2007", "trainval"): ["000005", "000007"],
    ("VOC2012", "trainval"): ["2008_000002"],
    ("VOC2007", "test"): ["000001"],
}


def drawn(name="dog", difficult=0, x1=3, y1=4, x2=12, y2=9):
    return OBJECT.format(name=name, difficult=difficult, x1=x1, y1=y1, x2=x2, y2=y2)


def annotated(objects, width=30):
    return f"<annotation><size><width>{width}</width><height>20</height></size>{objects}</annotation>"


def voc_scenes(base):
    for (year, split), stems in LISTS.items():
        for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
            (base / year / folder).mkdir(parents=True, exist_ok=True)
        (base / year / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{s}\n" for s in stems))
        for stem in stems:
            Image.new("RGB", (30, 20)).save(base / year / "JPEGImages" / f"{stem}.jpg")
            (base / year / "Annotations" / f"{stem}.xml").write_text(annotated(drawn()))
    tell(base, "voc0712", {"train": 3, "test": 1}, classes=voc.CLASSES)
    return base


# -- faces: drawn, as a pack is no file to write by hand --


def drawn_faces(root, name):
    """Three people in four images each, and two pairs in each of ten folds."""
    recipe = {"identities": "3", "shots": "4", "pairs": "1", "pixels": "16"}
    faces.STAND_INS[name].make(root, "smoke", recipe)
    return root


# -- what is done to a copy before it is read, and what is said of it --


def gone(*patterns):
    """Remove files and folders."""

    def damage(root):
        for path in [path for pattern in patterns for path in sorted(root.glob(pattern))]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return damage


def put(place, content=b"x"):
    """Write a file, whether it is there or not."""

    def damage(root):
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_bytes(content.encode() if isinstance(content, str) else content)

    return damage


def empty(place):
    """A folder with nothing in it."""

    def damage(root):
        shutil.rmtree(root / place, ignore_errors=True)
        (root / place).mkdir()

    return damage


def moved(old, new):
    return lambda root: (root / old).rename(root / new)


def edited(place, change):
    """Change the bytes of a file."""
    return lambda root: (root / place).write_bytes(change((root / place).read_bytes()))


def listed(place, line):
    """Add a line to a list."""
    return edited(place, lambda text: text.rstrip(b"\n") + b"\n" + line.encode("latin-1") + b"\n")


def refused(load, *arguments):
    """What is said where a data set does not load: one line."""
    with pytest.raises(PapersError) as caught:
        load(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def edit(path, change):
    """Change what a JSON file says, in place."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


# -- all of them, each in a folder of its own --

BUILD = {
    "cars196": devkit,
    "cifar10": folders,
    "imagenet": flat,
    "market1501": partial(people, name="market1501"),
    "dukemtmc": partial(people, name="dukemtmc"),
    "msmt17_v1": partial(people, name="msmt17_v1"),
    "msmt17_v2": partial(people, name="msmt17_v2"),
    "sysu30k": partial(bags, inside="."),
    "coco2017": coco_scenes,
    "voc0712": voc_scenes,
    **{name: partial(drawn_faces, name=name) for name in ("faces_emore", "lfw", "faces_own")},
}
