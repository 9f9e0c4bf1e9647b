"""The settings of trainings that take a moment."""

import torch

TINY = {
    "image_size": 8, "backbone": "tiny16", "projector_hidden": 16, "projector_out": 8, "optimiser": "sgd",
    "lr": 0.05, "batch_size": 8, "accumulation": 1, "epochs": 2, "warm_up_epochs": 0.0, "knn_every": 1,
    "knn_k": 5, "probe_epochs": 2, "precision": "float32", "queue": 16, "recipe": "cifar",
}  # fmt: skip


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
