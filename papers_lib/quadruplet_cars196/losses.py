"""Equations 1 to 6 of Karaman et al., "Quadruplet Selection Methods for Deep Embedding Learning".

R is the reference (anchor), P the positive of the same fine class (X^{P+}), M the sibling of the
same coarse and another fine class (X^{P-}), N the negative of another coarse class; D is the
Euclidean distance of two embeddings (footnote 4). Margins of .7 and .3 mean something on a bounded
scale only, so the caller normalises the embeddings to length 1, which keeps D in [0, 2].
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from papers_lib import arrays
from papers_lib.arrays import Array, one_of
from papers_lib.errors import PapersError

MarginRule = Literal["equation", "text"]
GlobalDistance = Literal["euclidean", "squared_over_4"]
Reduction = Literal["sum", "mean"]


def distances(features: Array, quadruplets: Array) -> tuple[Tensor, Tensor, Tensor]:
    """D_RP, D_RM and D_RN of each quadruplet (footnote 4).

    The gradient at D = 0 is 0: `vector_norm` takes that subgradient, where a square root of a sum
    would give NaN.

    Args:
        features: [B, D] embeddings, normalised by the caller.
        quadruplets: [M, 4] rows of `features`: R, P, M, N.

    Returns:
        Three tensors [M].

    Raises:
        PapersError: what is no matrix of numbers, or of four of its rows each.
    """
    x, chosen = arrays.numbers("features", features), arrays.tensor("quadruplets", quadruplets)
    if chosen.ndim != 2 or chosen.shape[1] != 4:
        raise PapersError(f"quadruplets are {arrays.shape(chosen)}; they must be integers [M, 4]")
    reach = (None, None) if chosen.is_cuda else (0, len(x))  # a GPU would be waited for
    rows = arrays.integers("quadruplets", chosen.flatten(), None, *reach)
    r, p, m, n = (x[column] for column in rows.view(-1, 4).unbind(1))
    norm = torch.linalg.vector_norm  # D(a, b) = ‖a − b‖₂
    return norm(r - p, dim=1), norm(r - m, dim=1), norm(r - n, dim=1)


def contrastive_loss(d: Array, same: Array, alpha: float) -> Tensor:
    """Equation 1, per pair: y D² + (1 − y) [α − D]₊².

    Args:
        d: [M] distances of the pairs.
        same: [M] bool, y: do the two share a class?
        alpha: margin.
    """
    d = arrays.numbers("distances", d, 1)
    same = arrays.tensor("same", same).to(d.device).bool()
    # y D² + (1 − y) [α − D]₊²
    return torch.where(same, d.square(), F.relu(alpha - d).square())


def triplet_loss(d_rp: Array, d_rn: Array, m: float) -> Tensor:
    """Equation 2, per triplet: [D_RP² − D_RN² + m]₊, from distances [M]."""
    d_rp, d_rn = _distances(d_rp, d_rn)
    # [D_RP² − D_RN² + m]₊
    return F.relu(d_rp.square() - d_rn.square() + m)


def global_loss(
    d_rp: Array,
    d_rm: Array,
    d_rn: Array,
    t1: float = 0.7,
    t2: float = 0.3,
    lg1: float = 1.0,
    lg2: float = 1.0,
    var_unbiased: bool = False,
    global_distance: GlobalDistance = "euclidean",
) -> Tensor:
    """Equation 3, once per batch:

        var D_RP + var D_RM + var D_RN + λ_g1 [μ_P − μ_M + t1 − t2]₊ + λ_g2 [μ_M − μ_N + t2]₊

    The paper leaves open which variance is meant: by default the population's, which is 0 for a
    batch of one. `global_distance="squared_over_4"` puts D²/4 in the place of D, as Kumar et al.
    (CVPR 2016), from whom the loss is taken; t1 and t2 do not carry over. An empty batch costs 0.

    Args:
        d_rp, d_rm, d_rn: [M] distances.

    Raises:
        PapersError: unbiased variance of a single quadruplet, or an unknown `global_distance`.
    """
    one_of("global_distance", global_distance, ("euclidean", "squared_over_4"))
    d_rp, d_rm, d_rn = _distances(d_rp, d_rm, d_rn)
    if d_rp.numel() == 0:
        return (d_rp + d_rm + d_rn).sum()
    if var_unbiased and d_rp.numel() == 1:
        raise PapersError("an unbiased variance needs two quadruplets or more; use var_unbiased=False")
    d = torch.stack((d_rp, d_rm, d_rn))  # [3, M]
    if global_distance == "squared_over_4":
        d = d.square() / 4
    mu_p, mu_m, mu_n = d.mean(1)
    variances = d.var(1, correction=int(var_unbiased)).sum()  # var D_RP + var D_RM + var D_RN
    # … + λ_g1 [μ_P − μ_M + t1 − t2]₊ + λ_g2 [μ_M − μ_N + t2]₊
    return variances + lg1 * F.relu(mu_p - mu_m + t1 - t2) + lg2 * F.relu(mu_m - mu_n + t2)


def classification_loss(
    coarse_logits: Array,
    fine_logits: Array,
    coarse: Array,
    fine: Array,
    lc1: float = 0.08,
    lc2: float = 0.25,
    swap_ce_weights: bool = False,
    reduction: Reduction = "sum",
) -> Tensor:
    """Equation 4 over the rows given: − λ_c1 log softmax(coarse) − λ_c2 log softmax(fine).

    Formula and text disagree on which weight is whose; the formula pairs λ_c1 with the coarse
    classes. `swap_ce_weights=True` is the text's closing sentence.

    Args:
        coarse_logits, fine_logits: [M, k1] and [M, k2] scores of the two heads.
        coarse, fine: [M] class indices.

    Returns:
        The sum (as Equation 6 has it) or the mean over the M rows; no rows cost 0.
    """
    one_of("reduction", reduction, ("sum", "mean"))
    weights = (lc2, lc1) if swap_ce_weights else (lc1, lc2)
    terms = []
    for name, scores, labels in (("coarse", coarse_logits, coarse), ("fine", fine_logits, fine)):
        logits = arrays.numbers(f"{name} logits", scores)  # [M, k]
        y = arrays.integers(name, labels, len(logits)).to(logits.device)  # [M]
        # − Σ_i log softmax(logits_i)[y_i]
        terms.append(F.cross_entropy(logits, y, reduction="sum"))
    total = weights[0] * terms[0] + weights[1] * terms[1]
    return total if reduction == "sum" else total / max(1, len(y))


def joint_loss(
    d_rp: Array,
    d_rm: Array,
    d_rn: Array,
    m1: float = 0.7,
    m2: float = 0.3,
    margin_rule: MarginRule = "equation",
) -> Tensor:
    """The distance part of Equation 5, per quadruplet [M]:

        [1 − D_RM / (D_RP + m1 − m2)]₊ + [1 − D_RN / (D_RM + m2)]₊

    The third term, L_C1C2(x_R), is `classification_loss` on the references' rows; `combined_loss`
    adds it. `margin_rule="text"` takes the margin of the sentence before the equation,
    D_RP + m1 < D_RM: the first denominator is D_RP + m1.

    Each term lies in [0, 1]. Where the selection rule holds without fallback, D_RM > D_RN, so that
    on the unit sphere the second term is never below m2 / (2 + m2) = .130.

    Raises:
        PapersError: margins that can make a denominator 0 or negative, or an unknown rule.
    """
    one_of("margin_rule", margin_rule, ("equation", "text"))
    d_rp, d_rm, d_rn = _distances(d_rp, d_rm, d_rn)
    fine_margin = m1 - m2 if margin_rule == "equation" else m1
    if fine_margin <= 0 or m2 <= 0:
        raise PapersError(f"margins m1={m1}, m2={m2}: Equation 5 needs m1 > m2 > 0")
    # [1 − D_RM / (D_RP + m1 − m2)]₊ + [1 − D_RN / (D_RM + m2)]₊
    return F.relu(1 - d_rm / (d_rp + fine_margin)) + F.relu(1 - d_rn / (d_rm + m2))


def combined_loss(
    d_rp: Array,
    d_rm: Array,
    d_rn: Array,
    classification: Tensor | float = 0.0,
    *,
    m1: float = 0.7,
    m2: float = 0.3,
    margin_rule: MarginRule = "equation",
    t1: float = 0.7,
    t2: float = 0.3,
    lg1: float = 1.0,
    lg2: float = 1.0,
    var_unbiased: bool = False,
    global_distance: GlobalDistance = "euclidean",
    eta: float = 1.0,
    reduction: Reduction = "sum",
) -> Tensor:
    """Equation 6, a scalar: Σ_i L_joint(Q_i) + η L_global(Q).

    As printed, the joint terms are summed and the global one is not: with M quadruplets a learning
    rate acts as M times itself on their mean, and the weight of the global term falls as 1/M.
    `reduction="mean"` divides the first sum by M, so that neither depends on the batch size.

    Args:
        d_rp, d_rm, d_rn: [M] distances of the valid quadruplets; none at all cost 0.
        classification: Σ_i L_C1C2(x_i) of Equation 5, already reduced by `classification_loss`
            with the same `reduction`.
    """
    one_of("reduction", reduction, ("sum", "mean"))
    d_rp, d_rm, d_rn = _distances(d_rp, d_rm, d_rn)
    joint = joint_loss(d_rp, d_rm, d_rn, m1, m2, margin_rule).sum()  # Σ_i, of the distance part
    if reduction == "mean":
        joint = joint / max(1, len(d_rp))
    batch = global_loss(d_rp, d_rm, d_rn, t1, t2, lg1, lg2, var_unbiased, global_distance)
    return joint + classification + eta * batch  # L_global once per batch


def _distances(first: Array, *others: Array) -> tuple[Tensor, ...]:
    d = arrays.numbers("distances", first, 1)
    return d, *(arrays.numbers("distances", other, 1, like=d) for other in others)
