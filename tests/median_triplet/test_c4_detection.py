"""C4 detectors: what they are made of, that they start from the weights given, learn, and resume."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from data_prep import detection_sets, sysu30k
from papers_lib.datasets import coco, scenes
from papers_lib.errors import PapersError
from papers_lib.median_triplet import detection, search, training
from papers_lib.median_triplet.detection import Loop, detector, fine_tune, rate, sides
from papers_lib.median_triplet.options import PROTOCOLS, TransferSettings
from papers_lib.networks import cifar

TINY = TransferSettings(
    backbone="tiny16", image_size=64, steps=3, batch_size=2, lr=0.005, proposals=16, height=32, width=16
)
needs_coco = pytest.mark.skipif(
    importlib.util.find_spec("pycocotools") is None, reason="needs pycocotools, in the extra 'detection'"
)


def changed(**changes):
    return TINY.model_copy(update=changes)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("transfer")
    recipe = {"train": "5", "test": "3", "pixels": "64", "classes": "2"}
    for data in detection_sets.DATASETS:
        (root / data.name).mkdir()
        data.stand_in.make(root / data.name, "smoke", recipe)
    (root / "sysu30k").mkdir()
    sysu30k.STAND_IN.make(root / "sysu30k", "smoke", {"bags": "1", "queries": "5", "distractors": "20"})
    return str(root)


@pytest.mark.parametrize(
    ("task", "classes", "millions"), [("faster_rcnn", 20, 33.2), ("mask_rcnn", 80, 36.0)]
)
def test_the_paper_s_detectors_have_the_known_size(task, classes, millions):
    model = detector(TransferSettings(task=task), classes)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)
    assert model.backbone.out_channels == 1024
    assert model.rpn.anchor_generator.sizes == ((32, 64, 128, 256, 512),)
    assert model.roi_heads.box_roi_pool.output_size == (14, 14) and model.backbone.stride == 16


def test_rois_are_cut_at_the_scale_of_the_map_whatever_came_first():
    align, grid = detection.OneMapAlign(4, 8), torch.arange(8.0).expand(1, 1, 8, 8)  # 64 × 64 pixels
    for shape in ((33, 33), (64, 64)):  # 33 pixels are padded to 64, which looks like a stride of 4
        rois = align({"0": grid}, [torch.tensor([[16.0, 16.0, 48.0, 48.0]])], [shape])
        assert rois[0, 0, 0].tolist() == pytest.approx([2, 3, 4, 5])  # four bins of one pixel of the map


@pytest.mark.parametrize("name", ["tiny16", "resnet18", "resnet18_cifar16"])
def test_any_residual_backbone_is_cut_after_its_third_stage(name):
    weights = cifar.build(name)[0].state_dict()
    model = detector(changed(backbone=name), 2, weights)
    stage = model.roi_heads.mask_head
    assert model.roi_heads.box_head.stage is stage
    own = [*model.backbone.state_dict().values(), *stage.stage.state_dict().values()]
    assert all(torch.equal(a, b) for a, b in zip(own, weights.values(), strict=True))
    assert model.backbone.stride == {"tiny16": 8, "resnet18": 16, "resnet18_cifar16": 4}[name]


def test_weights_of_another_backbone_are_refused():
    weights = cifar.build("tiny24")[0].state_dict()
    with pytest.raises(PapersError, match="do not fit the backbone 'tiny16'"):
        detector(TINY, 2, weights)


MOCO = {500: 0.5005, 1000: 1, 119_999: 1, 120_000: 0.1, 160_000: 0.01}
RATES = [
    ("mask_rcnn", "moco", 180_000, MOCO, (640, 800)),
    ("faster_rcnn", "moco", 24_000, {17_999: 1, 18_000: 0.1, 22_000: 0.01}, (480, 800)),
    ("mask_rcnn", "released", 180_000, {0: 0.001, 90_000: 0.5, 180_000: 0}, (640, 864)),
    ("faster_rcnn", "released", 180_000, {0: 0.001}, (480, 864)),
]


@pytest.mark.parametrize(("task", "protocol", "total", "rates", "ends"), RATES)
def test_the_rates_and_sides_of_the_protocols(task, protocol, total, rates, ends):
    protocol = PROTOCOLS[task, protocol]
    assert {step: rate(protocol, step, total) for step in rates} == pytest.approx(rates, abs=1e-12)
    assert (sides(protocol, 800)[0], sides(protocol, 800)[-1]) == ends


def test_a_mirrored_example_is_the_picture_in_a_mirror(root):
    scene = next(s for s in coco.load(root).train if s.ignored.any())
    image, target = detection.example(scene, False, True)
    other, mirrored = detection.example(scene, True, True)
    assert torch.equal(other, image.flip(2)) and torch.equal(mirrored["masks"], target["masks"].flip(2))
    assert len(target["boxes"]) == (~scene.ignored).sum()
    for box, mask in zip(mirrored["boxes"], mirrored["masks"], strict=True):
        columns = mask.any(0).nonzero()
        assert abs(int(columns[0]) - box[0]) <= 1 and abs(int(columns[-1]) + 1 - box[2]) <= 1
    assert torch.equal(image, torch.from_numpy(scenes.picture(scene)).permute(2, 0, 1))


def loop(task, root, **changes):
    data, settings = coco.load(root), changed(task=task, **changes)
    torch.manual_seed(settings.seed)
    return Loop(settings, detector(settings, len(data.classes)), data, torch.device("cpu"))


def silent(*_):
    pass


def weights_of(run):
    return {name: value.clone() for name, value in run.model.state_dict().items()}


def test_it_learns(root, tmp_path):
    run = loop("faster_rcnn", root, steps=25, lr=0.02, batch_size=3)
    run.run(tmp_path / "c.pt", silent)
    totals = [losses["loss"] for losses in run.losses]
    assert np.mean(totals[-5:]) < 0.8 * np.mean(totals[1:6])


def test_frozen_trains_the_heads_alone(root, tmp_path):
    for frozen in (False, True):
        run = loop("mask_rcnn", root, frozen=frozen, steps=2)
        before = weights_of(run)
        run.run(tmp_path / "c.pt", silent)
        moved = {name for name, value in weights_of(run).items() if not torch.equal(value, before[name])}
        cut = {n for n in moved if n.startswith(("backbone.", "roi_heads.box_head.stage.stage."))}
        assert bool(cut) is not frozen
        assert any(n.startswith("roi_heads.mask_predictor") for n in moved)
        assert "roi_heads.box_head.stage.norm.weight" in moved


CHANGES = {
    "seed": 1, "backbone": "tiny24", "det_schedule": "released", "image_size": 96, "steps": 2,
    "batch_size": 1, "accumulation": 2, "precision": "bfloat16", "lr": 0.01, "momentum": 0.5,
    "weight_decay": 0.1, "proposals": 8, "roi_size": 4, "frozen": True,
}  # fmt: skip


def detector_weights(root, folder, **changes):
    run = loop("faster_rcnn", root, **changes)
    run.run(folder / "c.pt", silent)
    return weights_of(run)


@pytest.fixture(scope="module")
def plain_weights(root, tmp_path_factory):
    return detector_weights(root, tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize("name", [None, *CHANGES])
def test_every_setting_of_a_detector_changes_its_weights(name, plain_weights, root, tmp_path):
    theirs = detector_weights(root, tmp_path, **({name: CHANGES[name]} if name else {}))
    same = plain_weights.keys() == theirs.keys() and all(
        value.shape == theirs[n].shape and torch.equal(value, theirs[n]) for n, value in plain_weights.items()
    )
    assert same is (name is None)


def test_no_setting_of_a_detector_is_left_out():
    elsewhere = {"task", "start", "height", "width", "flip_fusion", "processes"}
    assert set(CHANGES) | elsewhere == set(TransferSettings.model_fields)


def test_a_killed_run_goes_on_as_if_nothing_had_happened(root, tmp_path, monkeypatch):
    monkeypatch.setattr(detection, "EVERY", -1.0)
    whole = loop("mask_rcnn", root)
    whole.run(tmp_path / "whole.pt", silent)

    def killed(step, *_):
        if step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop("mask_rcnn", root).run(tmp_path / "killed.pt", killed)
    resumed = loop("mask_rcnn", root)
    resumed.resume(torch.load(tmp_path / "killed.pt"))
    assert resumed.step == 1
    resumed.run(tmp_path / "killed.pt", silent)
    assert resumed.means() == whole.means()
    ours, theirs = weights_of(resumed), weights_of(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def without_norm(run):
    """Batch normalisation is over other pictures in one process, and dropped here from both."""
    for parent in list(run.model.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, torch.nn.BatchNorm2d):
                setattr(parent, name, torch.nn.Identity())
    trained = [p for p in run.model.parameters() if p.requires_grad]
    run.optimiser = torch.optim.SGD(trained, 0.0, 0.9)
    return run


SHARED = {"batch_size": 4, "accumulation": 2, "steps": 2, "lr": 0.001}


def half(rank, folder, root):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    run, seen = without_norm(loop("mask_rcnn", root, **SHARED)), []
    run.run(Path(folder) / "c.pt", lambda *given: seen.append(given))
    assert bool(seen) is (rank == 0)  # one process reports and saves
    found = {"weights": weights_of(run), "losses": run.means()}
    if importlib.util.find_spec("pycocotools"):
        settings = changed(batch_size=2, accumulation=2, steps=1)
        found["result"] = fine_tune((root, "coco2017"), settings, None, Path(folder) / "whole", "cpu")
    torch.save(found, Path(folder) / f"{rank}.pt")
    with pytest.raises(PapersError, match="2 pictures per step in 1 parts over 2 processes"):
        loop("faster_rcnn", root)
    with pytest.raises(PapersError, match="search runs in one process"):
        training.run_transfer(changed(task="search"), (root, "sysu30k"), Path(folder), None)
    dist.destroy_process_group()


@pytest.mark.timeout(120)
def test_two_processes_fine_tune_what_one_does_in_parts(root, tmp_path):
    (tmp_path / "whole").mkdir()
    mp.start_processes(half, (str(tmp_path), root), 2, start_method="fork")
    alone = without_norm(loop("mask_rcnn", root, **SHARED))
    before = weights_of(alone)
    alone.run(tmp_path / "alone.pt", silent)
    halves = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for found in halves:
        assert found["losses"] == pytest.approx(alone.means(), abs=1e-4)
        for name, value in weights_of(alone).items():
            torch.testing.assert_close(found["weights"][name], value, rtol=0, atol=1e-5)
    moved = max((value - before[name]).abs().max() for name, value in weights_of(alone).items())
    assert moved > 5e-5  # beside a bound of 1e-5
    if "result" in halves[0]:  # every test picture is counted, once
        assert 0 <= halves[0]["result"]["AP_box"] <= 1 and halves[1]["result"] == {}


def test_the_pictures_of_a_step_are_the_same_in_any_number_of_parts(root):
    steps = []
    for accumulation in (1, 2, 4):
        run = loop("faster_rcnn", root, batch_size=4, accumulation=accumulation, steps=3)
        steps.append([[i.sum().item() for part in step for i, _ in part] for step in run.stream(run._keys())])
        assert all(len(step) == 4 for step in steps[-1])
    assert steps[0] == steps[1] == steps[2]


def test_a_loss_that_is_not_finite_stops_the_run(root, tmp_path):
    run = loop("faster_rcnn", root)
    with torch.no_grad():
        run.model.rpn.head.cls_logits.bias.fill_(torch.nan)
    with pytest.raises((FloatingPointError, AssertionError)):
        run.run(tmp_path / "c.pt", silent)


@needs_coco
@pytest.mark.parametrize(("task", "name"), [("mask_rcnn", "coco2017"), ("faster_rcnn", "voc0712")])
def test_fine_tuning_gives_plain_numbers(task, name, root, tmp_path):
    weights = cifar.build("tiny16")[0].state_dict()
    seen = []

    def report(step, total, note, numbers):
        assert numbers["loss"] > 0
        seen.append((step, total))

    result = fine_tune((root, name), changed(task=task), weights, tmp_path, "cpu", report)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    kinds = ("box", "mask") if task == "mask_rcnn" else ("box",)
    expected = {f"{precision}_{kind}" for precision in ("AP", "AP50", "AP75") for kind in kinds}
    assert {key for key in result if key.startswith("AP")} == expected
    assert seen == [(1, 3), (2, 3), (3, 3)]
    # from the last checkpoint, without a step
    assert fine_tune((root, name), changed(task=task), weights, tmp_path, "cpu", report) == result
    assert len(seen) == 3


@needs_coco
@pytest.mark.parametrize(
    ("task", "name", "says"),
    [
        ("mask_rcnn", "voc0712", "voc0712 has no masks"),
        ("faster_rcnn", "cifar10", "unknown data set 'cifar10' for detection"),
    ],
)
def test_data_that_do_not_fit_the_task(task, name, says, root, tmp_path):
    with pytest.raises(PapersError, match=says):
        fine_tune((root, name), changed(task=task), None, tmp_path)


@needs_coco
def test_detections_lie_in_the_picture_file(root):
    data = coco.load(root)
    model = detector(TINY, 2)
    model.roi_heads.score_thresh = 0.0
    for scene, found in zip(data.test, detection.detect(model, data.test, 64), strict=True):
        assert len(found.boxes) == len(found.scores) == len(found.labels) == len(found.masks) > 0
        assert found.boxes[:, 0::2].max() <= scene.width and found.boxes[:, 1::2].max() <= scene.height
        assert found.masks[0]["size"] == [scene.height, scene.width]


# -- Table 4 --


def test_search_counts_as_the_protocol_says(root):
    found = search.search(changed(task="search"), (root, "sysu30k"), None, "cpu")
    assert json.loads(json.dumps(found)) == found
    assert found["parts"] == {"query": 5, "gallery": 25}
    assert 0 <= found["rank1"] <= found["rank5"] <= found["rank10"] <= 1


@pytest.mark.parametrize("fusion", ["normalised", "released", "none"])
def test_fused_features_do_not_see_a_mirror(fusion, monkeypatch):
    net = cifar.build("tiny16")[0].eval()
    pixels = torch.randint(0, 256, (4, 32, 16, 3), dtype=torch.uint8)
    found = []
    for each in (pixels, pixels.flip(2)):
        monkeypatch.setattr(search, "_read", lambda size, files, p=each: p)
        found.append(search.embed(net, ["x"] * 4, changed(flip_fusion=fusion), torch.device("cpu")))
    assert torch.allclose(*found, atol=1e-5) is (fusion == "normalised")


def test_the_released_fusion_hardly_sees_the_first_picture():
    a, b = torch.tensor([[5.0, 0.0]]), torch.tensor([[0.0, 30.0]])
    assert search.fused(a, b, "released")[0].tolist() == pytest.approx([1 / 901**0.5, 30 / 901**0.5])
    assert search.fused(a, b, "normalised")[0].tolist() == pytest.approx([0.5**0.5] * 2)
