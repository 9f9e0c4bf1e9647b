"""What the tests of this folder share: tiny recipes, and how a command is called and refuses."""

from data_prep.__main__ import _datasets, main

PEOPLE = {"train_ids": "5", "test_ids": "2", "distractors": "2", "junk": "2"}
NETWORK = {"train_ids": "12", "test_ids": "2"}  # enough people for each camera to see somebody
PICTURES = {"classes": "10", "train": "3", "test": "2"}
SCENES = {"train": "5", "test": "4", "pixels": "64"}
FACES = {"identities": "4", "shots": "3", "pairs": "1", "pixels": "24"}
TINY = {
    "cars196": {"per_model": "4", "pixels": "16"},
    **dict.fromkeys(("market1501", "dukemtmc", "pedestrians_warmup", "pedestrians_many"), PEOPLE),
    **dict.fromkeys(("msmt17_v1", "msmt17_v2"), NETWORK),
    **dict.fromkeys(("cifar10", "cifar100", "imagenette", "imagenet"), PICTURES),
    "sysu30k": {"bags": "2", "people": "2", "queries": "2", "distractors": "2"},
    **dict.fromkeys(("coco2017", "voc0712"), SCENES),
    **dict.fromkeys(("faces_emore", "faces_own", "lfw"), FACES),
}


def settings(**options):
    """`-p NAME VALUE` of each."""
    return [word for name, value in options.items() for word in ("-p", name, str(value))]


def content(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def times(folder):
    """When each was changed: equal before and after where nothing was touched."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def draw(root, name, **options):
    """The tiny stand-in of `name` with some settings changed, at `root / name`."""
    (root / name).mkdir(parents=True)
    _datasets()[name].stand_in.make(root / name, "smoke", TINY[name] | options)
    return root / name


def refused(capsys, *arguments):
    """The one line in which a command refuses bad input."""
    assert main(list(map(str, arguments))) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    return captured.err
