"""What is read off a trained embedding: retrieval, clusters, and what the selections would choose on it."""

from __future__ import annotations

import torch
from torch import Tensor

from papers_lib.evaluation import clustering, retrieval
from papers_lib.quadruplet_cars196.embedding import EmbeddingNet, embed
from papers_lib.quadruplet_cars196.images import Images
from papers_lib.quadruplet_cars196.options import TrainSettings
from papers_lib.quadruplet_cars196.selection import Method, Selection, select


def recall_at_1(net: EmbeddingNet, images: Images, crop: int) -> float:
    """R@1 of a split as the network is now."""
    features = embed(net, images.pixels, crop)  # [N, d]
    return round(retrieval.recall_at_k(features, images.fine.to(features.device), ks=(1,))[1], 5)


def evaluate(net: EmbeddingNet, images: Images, settings: TrainSettings) -> dict[str, float]:
    """Recall@K and MAP@R in one pass, NMI and AMI over k-means seeds, on the unseen classes."""
    features, fine = embed(net, images.pixels, settings.crop), images.fine
    scores = retrieval.scores(features, fine.to(features.device))
    clusters = clustering.nmi(features.cpu(), fine, seeds=range(settings.nmi_seeds))
    scores |= {
        "NMI": clusters.nmi_mean,
        "NMI_sd": clusters.nmi_sd,
        "AMI": clusters.ami_mean,
        "AMI_sd": clusters.ami_sd,
        "within_over_all": within_over_all(features.cpu(), fine),
        "chance": chance(fine),
    }
    return {name: round(value, 6) for name, value in scores.items()}


def chance(labels: Tensor) -> float:
    """R@1 of a random order: the mean share of a query's class among the others."""
    counts = labels.bincount().double()
    return float((counts * (counts - 1)).sum() / (len(labels) * (len(labels) - 1)))


def within_over_all(features: Tensor, labels: Tensor) -> float:
    """Variance within the classes over all variance, of features [N, d]: 0 tight, 1 no classes."""
    _, index, counts = labels.unique(return_inverse=True, return_counts=True)
    sums = torch.zeros(len(counts), features.shape[1]).index_add_(0, index, features.float())
    centres = sums / counts[:, None]  # [classes, d]
    within = (features - centres[index]).square().sum()
    return float(within / (features - features.mean(0)).square().sum())


def mined(features: Tensor, images: Images, settings: TrainSettings) -> dict[str, float]:
    """What Methods 1 and 2 choose on the same features [N, d]: how often they agree, and skip a sibling.

    Every reference has its quadruplet here, whatever the run's options, so that the methods compare.
    """

    def choose(method: Method) -> Selection:
        lot = torch.Generator().manual_seed(0)
        sibling = settings.sibling
        return select(features, images.fine, images.coarse, method, sibling=sibling, generator=lot)

    one, two, near = choose("method_1"), choose("method_2"), choose("nearest_sibling")
    same = (one.quadruplets == two.quadruplets).float().mean(0)  # [4] shares of equal R, P, M, N
    skips = (two.quadruplets[:, 2] != near.quadruplets[:, 2]).float().mean()
    shares: dict[str, Tensor | float] = {
        "same_positive": same[1],
        "same_sibling": same[2],
        "skips_a_closer_sibling": skips,
        "distinct_method_1": _distinct(one),
        "distinct_method_2": _distinct(two),
        "method_1_positive_rank": _positive_rank(features, images.fine, one),
        "method_2_positive_rank": _positive_rank(features, images.fine, two),
        "method_2_positive_fallback": two.positive_fallback.float().mean(),
        "method_2_sibling_fallback": two.sibling_fallback.float().mean(),
    }
    return {name: round(float(value), 5) for name, value in shares.items()}


def _positive_rank(features: Tensor, fine: Tensor, chosen: Selection) -> float:
    """How far out P+ lies in its class: the mean share of R's other class mates that are nearer to R."""
    shares = []
    for part in chosen.quadruplets.split(512):
        r, p = part[:, 0], part[:, 1]
        d = torch.cdist(features[r], features)  # [m, N]
        mates = fine[r][:, None].to(d.device) == fine.to(d.device)
        mates[torch.arange(len(r)), r] = False
        nearer = (mates & (d < d.gather(1, p[:, None]))).sum(1)
        others = mates.sum(1) - 1  # but P+ itself
        shares.append(nearer[others > 0] / others[others > 0])
    return float(torch.cat(shares).mean())


def _distinct(chosen: Selection) -> float:
    """Different images among the P+ and P− chosen, per reference."""
    members = chosen.quadruplets[:, 1:3]
    return sum(len(torch.unique(column)) for column in members.T) / len(members)
