"""The heads against a loop over rows as the public code has it, in value, gradient and choice."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

from papers_lib.errors import PapersError
from papers_lib.median_triplet.heads import rank, rank_k_triplet, selected, smoothed_triplet


def views(n=12, d=6, seed=0, dtype=torch.float32):
    """Predictions and projections of the same images, not of length 1."""
    g = torch.Generator().manual_seed(seed)
    image = torch.randn(n, d, generator=g, dtype=dtype)
    query, target = (image + torch.randn(n, d, generator=g, dtype=dtype) for _ in range(2))
    return query.requires_grad_(), target.requires_grad_()


def by_rows(query, target, ranks, gamma=2.0, margin=None, hinge="relu", scale=2.0):
    """Row by row: its distances, the negatives sorted, the mean of the ranks asked for."""
    losses = []
    for i in range(len(query)):
        row = [-scale * F.cosine_similarity(query[i], z, dim=0) for z in target]
        negatives = sorted((row[j] for j in range(len(row)) if j != i), key=lambda d: d.item())
        chosen = sum(negatives[r - 1] for r in ranks) / len(ranks)
        x = gamma * row[i] - chosen
        if margin is not None:
            x = (x + margin).clamp(min=0) if hinge == "relu" else x.clamp(min=margin)
        losses.append(x)
    return sum(losses) / len(losses)


def gradients(loss, *tensors):
    return torch.autograd.grad(loss, tensors)


def same(loss, expected, *tensors):
    torch.testing.assert_close(loss, expected, atol=1e-6, rtol=1e-6)
    for got, want in zip(gradients(loss, *tensors), gradients(expected, *tensors), strict=True):
        torch.testing.assert_close(got, want, atol=1e-6, rtol=0)


@pytest.mark.parametrize("detached", [False, True])
@pytest.mark.parametrize("k", [1, 2, 5, 11, None, 0.25])
def test_rank_k_equals_the_loop(k, detached):
    query, target = views()
    ranks = [{None: 6, 0.25: 3}.get(k, k)]
    z = target.detach() if detached else target
    reached = (query,) if detached else (query, target)
    loss = rank_k_triplet(query, z, k)
    same(loss, by_rows(query, z, ranks), *reached)
    assert loss.requires_grad and z.requires_grad is not detached


@pytest.mark.parametrize(("first", "last"), [(2, 10), (1, 1), (3, 11)])
def test_smoothed_equals_the_loop(first, last):
    query, target = views()
    ranks = range(first, last + 1)
    same(smoothed_triplet(query, target, first, last), by_rows(query, target, ranks), query, target)


@pytest.mark.parametrize("hinge", ["relu", "printed"])
@pytest.mark.parametrize("margin", [-1.0, 0.3, 1.2])
def test_hinge_gamma_and_scale_equal_the_loop(margin, hinge):
    query, target = views()
    loss = rank_k_triplet(query, target, 4, 1.5, margin=margin, hinge=hinge, distance_scale=1.0)
    same(loss, by_rows(query, target, [4], 1.5, margin, hinge, 1.0), query, target)
    smooth = smoothed_triplet(query, target, 2, 4, 1.5, margin=margin, hinge=hinge, distance_scale=1.0)
    same(smooth, by_rows(query, target, [2, 3, 4], 1.5, margin, hinge, 1.0), query, target)


@pytest.mark.parametrize("n", range(3, 12))
def test_the_default_is_the_median_of_the_negatives(n):
    query, target = views(n)
    d = -(F.normalize(query) @ F.normalize(target).T)
    medians = [torch.cat((row[:i], row[i + 1 :])).median() for i, row in enumerate(d)]
    chosen = d[torch.arange(n), selected(query, target)]
    torch.testing.assert_close(chosen, torch.stack(medians))


@pytest.mark.parametrize("head", [rank_k_triplet, smoothed_triplet])
def test_double_precision_and_the_gradient_by_differences(head):
    query, target = views(11, 3, dtype=torch.float64)
    assert head(query, target).dtype == torch.float64
    assert gradcheck(lambda q, z: head(q, z, margin=1.0), (query, target))


@pytest.mark.parametrize("head", [rank_k_triplet, smoothed_triplet])
@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_margins_that_never_bind_leave_the_gradient_bit_for_bit(head, scale):
    query, target = views(104, 32)
    bare = gradients(head(query, target, distance_scale=scale), query, target)
    for margin in (3 * scale, 100.0, 1000.0):
        with_margin = gradients(head(query, target, margin=margin, distance_scale=scale), query, target)
        assert all(torch.equal(a, b) for a, b in zip(bare, with_margin, strict=True))


@pytest.mark.parametrize("margin", [100.0, 3.0, 1.2])
def test_the_hinge_as_printed_has_no_gradient_erratum_e1(margin):
    g = torch.Generator().manual_seed(0)
    query, target = (torch.randn(104, 256, generator=g).requires_grad_() for _ in range(2))
    loss = rank_k_triplet(query, target, margin=margin, hinge="printed", distance_scale=1.0)
    assert loss.item() == pytest.approx(margin)
    assert not any(gradient.any() for gradient in gradients(loss, query, target))


def test_length_of_the_features_does_not_matter():
    query, target = views()
    scaled = query * torch.logspace(-6, 6, len(query))[:, None], target * 1e4
    torch.testing.assert_close(rank_k_triplet(*scaled, 3), rank_k_triplet(query, target, 3))
    assert torch.equal(selected(*scaled, 3), selected(query, target, 3))


def test_half_precision_and_autocast_change_neither_choice_nor_precision():
    query, target = (x.detach().bfloat16() for x in views(40, 64))
    exact = rank_k_triplet(query.float(), target.float())
    assert exact.dtype == torch.float32
    assert torch.equal(rank_k_triplet(query, target), exact)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(rank_k_triplet(query, target), exact)
        assert torch.equal(smoothed_triplet(query, target), smoothed_triplet(query.float(), target.float()))


def slow_choice(query, target):
    """Every query's negatives by distance, then by index, from the very products that the library ranks."""
    z = target / torch.linalg.vector_norm(target, dim=1, keepdim=True)
    s = (query @ z.T).tolist()
    n = len(s)
    return [sorted((j for j in range(n) if j != i), key=lambda j: (-s[i][j], j)) for i in range(n)]


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_selected_is_a_stable_sort_and_names_each_other_image_once(seed, ties):
    query, target = (x.detach() for x in views(9, 4, seed))
    if ties:  # duplicates, and a target in three orthogonal directions: most distances are equal
        target = torch.eye(4)[torch.tensor([0, 1, 2, 0, 1, 2, 0, 0, 1])]
        query = target.flip(0)
    want = slow_choice(query, target)
    got = torch.stack([selected(query, target, k) for k in range(1, 9)], 1)
    assert got.dtype == torch.int64 and got.tolist() == want
    assert [sorted(row) for row in got.tolist()] == [[j for j in range(9) if j != i] for i in range(9)]


def test_collapsed_features_have_a_finite_loss():
    query = torch.ones(12, 4, requires_grad=True)
    for head in (rank_k_triplet, smoothed_triplet):
        loss = head(query, torch.ones(12, 4))
        assert loss.item() == pytest.approx(-2)  # γ d⁺ − d⁻ with d = −2
        assert gradients(loss, query)[0].abs().max() < 1e-6
    assert selected(query, torch.ones(12, 4), 5).tolist() == [5 if i < 5 else 4 for i in range(12)]


@pytest.mark.parametrize("head", [rank_k_triplet, smoothed_triplet])
@pytest.mark.parametrize("margin", [None, 0.3, 100.0])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None])
@pytest.mark.parametrize("side", [0, 1])
def test_a_broken_row_is_never_ranked_in_silence(side, value, margin, head):
    """At every rank, also where the hinge is shut for all other rows: kthvalue alone would rank NaN last."""
    pair = [x.detach().clone() for x in views()]
    pair[side][4, 1 if value is not None else slice(None)] = 0.0 if value is None else value
    for k in (1, 6, 11):
        options = {"k": k} if head is rank_k_triplet else {"last": k, "first": 1}
        hinges = ("relu",) if margin is None else ("relu", "printed")
        assert all(head(*pair, **options, margin=margin, hinge=hinge).isnan() for hinge in hinges)
        with pytest.raises(PapersError, match="NaN, infinity or a row of zeros"):
            selected(*pair, k)


def test_rank():
    wanted = {(None, 104): 52, (None, 3): 1, (None, 196): 98, (1, 3): 1, (2, 3): 2, (103, 104): 103}
    wanted |= {(0.5, 104): 52, (0.18, 104): 19, (0.001, 104): 1, (0.9, 11): 10}
    assert {place: rank(*place) for place in wanted} == wanted


@pytest.mark.parametrize(
    ("k", "n", "says"),
    [
        (104, 104, "k=104 is out of range: of 104 images 103 are negatives; give 1 to 103"),
        (0, 104, "k=0 is out of range"),
        (0.999, 104, "k=0.999 is out of range"),
        (None, 2, "a batch of 2 has no negatives to rank; give three images or more"),
        (1.0, 104, "k is 1.0; it must be an int, a fraction"),
        (math.nan, 104, "k is nan"),
        (True, 104, "k is True"),
        ("5", 104, "k is '5'"),
    ],
)
def test_ranks_that_no_batch_has(k, n, says):
    with pytest.raises(PapersError) as error:
        rank(k, n)
    assert str(error.value).startswith(says) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda q, z: rank_k_triplet(q, z, 12), "give 1 to 11"),
        (lambda q, z: rank_k_triplet(q[:2], z[:2]), "three images"),
        (lambda q, z: selected(q[:1], z[:1]), "three images"),
        (lambda q, z: smoothed_triplet(q[:8], z[:8]), "ranks 2 to 10 .* 7 negatives .* 11 images or more"),
        (lambda q, z: smoothed_triplet(q, z, 0, 3), "first is 0"),
        (lambda q, z: smoothed_triplet(q, z, 4, 3), "ranks 4 to 3"),
        (lambda q, z: rank_k_triplet(q, z[:5]), r"\[n, d\]"),
        (lambda q, z: rank_k_triplet(q[0], z[0]), r"\[n, d\]"),
        (lambda q, z: rank_k_triplet(q, z, hinge="guess"), "relu, printed"),
        (lambda q, z: smoothed_triplet(q, z, hinge="printed"), "give a margin"),
    ],
)
def test_bad_input_is_one_line(call, says):
    with pytest.raises(PapersError, match=says) as error:
        call(*views())
    assert "\n" not in str(error.value)
