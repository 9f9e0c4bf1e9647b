"""What is of ImageNet alone: its two accuracies, its rate, and pictures that workers cannot read."""

import gc
import shutil

import pytest
import torch
from PIL import Image
from tiny_nar import IMAGENET
from torchvision.transforms import v2

from papers_lib.datasets import classification
from papers_lib.errors import PapersError
from papers_lib.nar.fitting import quiet
from papers_lib.nar.imagenet import training
from papers_lib.nar.options import ImageNetSettings

SETTINGS = ImageNetSettings(**IMAGENET)


def test_accuracies_are_those_of_a_plain_loop_and_the_rate_falls_to_a_tenth(root):
    fit = training.ImageNetFit(SETTINGS, classification.load(root, "imagenet"), torch.device("cpu"))
    rates = []
    for _ in range(2):
        fit.run_epoch()
        rates.append(fit.optimiser.param_groups[0]["lr"])
    assert rates == pytest.approx([0.05, 0.005])
    result, right = fit.accuracies(), {1: 0, 5: 0}
    mean, sd = (torch.tensor(x)[:, None, None] for x in (training.MEAN, training.SD))
    testing = v2.Compose([v2.Resize(SETTINGS.resize), v2.CenterCrop(SETTINGS.image_size), v2.PILToTensor()])
    for file, label in zip(fit.test.images, fit.test.labels, strict=True):
        pixels = testing(Image.open(file).convert("RGB"))
        order = fit.network(((pixels / 255 - mean) / sd)[None])[0].argsort(descending=True).tolist()
        for k in right:
            right[k] += int(label) in order[:k]
    assert result == pytest.approx({"accuracy": right[1] / 12, "top_5": right[5] / 12}, abs=1e-6)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_broken_picture_is_one_clear_line(root, tmp_path, workers, monkeypatch):
    monkeypatch.setenv("PAPERS_WORKERS", workers)
    shutil.copytree(root / "imagenet", tmp_path / "imagenet")
    broken = tmp_path / "imagenet" / "train" / "n00000002" / "1.JPEG"
    broken.write_bytes(broken.read_bytes()[:100])
    with pytest.raises(PapersError, match=r"1\.JPEG is not a whole image") as caught:
        training.train(SETTINGS, (str(tmp_path), "imagenet"), tmp_path, "cpu", quiet)
    assert "\n" not in str(caught.value) and "Error:" not in str(caught.value)
    del caught
    gc.collect()  # ends the workers here and not in the midst of another test


def test_a_middle_larger_than_the_image_is_refused(root, tmp_path):
    large = SETTINGS.model_copy(update={"image_size": 40})
    with pytest.raises(PapersError, match="image_size=40 of resize=36"):
        training.train(large, (str(root), "imagenet"), tmp_path, "cpu", quiet)
