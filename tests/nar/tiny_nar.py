"""The settings of runs that take a moment; `conftest.py` makes the images for them."""

import torch
from torch import nn

COMMON = {
    "decisions": 6, "width": 4, "valid_size": 40, "score_images": 10, "batch_size": 10,
    "precision": "float32",
}  # fmt: skip
SEARCHING = {
    "epochs": 3, "first_cycle": 1, "pretrain_epochs": 1, "updates": 2, "samples": 3, "final_samples": 3,
    "bn_eval": "batch",
}  # fmt: skip
SEARCH = COMMON | SEARCHING | {"reward_images": 10}
FACES = {
    "image_size": 16, "identities": 4, "shots": 6, "held_out": 2, "width": 2, "embedding": 8, "scale": 8.0,
    "margin": 0.1, "first_cycle": 2, "epochs": 2, "batch_size": 8, "precision": "float32",
}  # fmt: skip
SEARCH_FACES = FACES | SEARCHING | {"score_images": 2, "reward_images": 4}
IMAGENET = {
    "vector": (1, 0, 0, 0, 0, 0, 0, 0), "width": 4, "image_size": 32, "resize": 36, "epochs": 2,
    "batch_size": 6, "step_epochs": 1, "lr": 0.05, "precision": "float32",
}  # fmt: skip


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def worn(net: nn.Module) -> nn.Module:
    """The network, its normalisation with statistics and weights that are not those of a fresh layer."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(std=0.1)
    return net
