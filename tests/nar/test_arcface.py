"""ArcFace against the angle itself, at the edges, and beyond π."""

import math

import pytest
import torch
from torch.autograd import gradcheck
from torch.nn.functional import cross_entropy

from papers_lib.errors import PapersError
from papers_lib.nar.arcface import ArcFace, arc_logits


def by_angle(cosines: torch.Tensor, labels: torch.Tensor, scale: float, margin: float) -> torch.Tensor:
    """A loop with arccos, as the formula stands."""
    rows = []
    for row, label in zip(cosines.tolist(), labels.tolist(), strict=True):
        theta = math.acos(row[label])
        turned = math.cos(theta + margin)
        if theta + margin > math.pi:
            turned = row[label] - margin * math.sin(margin)
        rows.append([scale * (turned if j == label else c) for j, c in enumerate(row)])
    return torch.tensor(rows, dtype=cosines.dtype)


@pytest.mark.parametrize("margin", [0.0, 0.3, 0.5, 1.2])
def test_logits_as_the_formula(margin):
    generator = torch.Generator().manual_seed(0)
    cosines = torch.rand(200, 5, generator=generator, dtype=torch.float64) * 1.99 - 0.995
    labels = torch.randint(0, 5, (200,), generator=generator)
    assert (cosines.gather(1, labels[:, None]) < -math.cos(margin)).any() or margin == 0
    found = arc_logits(cosines, labels, 64.0, margin)
    assert torch.allclose(found, by_angle(cosines, labels, 64.0, margin), atol=1e-9)


def test_the_logit_falls_with_the_angle_all_the_way():
    theta = torch.linspace(0.01, math.pi - 0.01, 500, dtype=torch.float64)
    cosines = torch.stack([theta.cos(), torch.zeros(500, dtype=torch.float64)], 1)
    logits = arc_logits(cosines, torch.zeros(500, dtype=torch.int64), 1.0, 0.5)[:, 0]
    assert (logits.diff() < 0).all()
    assert (torch.cos(theta + 0.5).diff() > 0).any()  # without the second case it would rise again


def test_rounding_beyond_one_is_clamped_and_gradients_stay_finite():
    cosines = torch.tensor([[1 + 3e-7, 0.0], [-1 - 3e-7, 0.0], [1.0, 0.0], [-1.0, 0.0]], requires_grad=True)
    labels = torch.zeros(4, dtype=torch.int64)
    loss = cross_entropy(arc_logits(cosines, labels), labels)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(cosines.grad).all()


def test_gradients_are_those_of_differences():
    torch.manual_seed(0)
    cosines = (torch.rand(6, 4, dtype=torch.float64) * 1.6 - 0.8).requires_grad_()
    assert gradcheck(lambda c: arc_logits(c, torch.tensor([0, 1, 2, 3, 0, 1]), 4.0, 0.5), (cosines,))


def test_the_head_is_the_cross_entropy_of_these_logits():
    torch.manual_seed(0)
    head = ArcFace(3, 4)
    embeddings, labels = torch.randn(6, 3), torch.tensor([0, 1, 2, 3, 0, 1])
    unit = embeddings / embeddings.norm(dim=1, keepdim=True)
    weight = head.weight / head.weight.norm(dim=1, keepdim=True)
    cosines = unit @ weight.t()
    expected = cross_entropy(by_angle(cosines.double(), labels, 64.0, 0.5), labels)
    assert head(embeddings, labels).item() == pytest.approx(expected.item(), rel=1e-5)
    assert torch.allclose(head.cosines(10 * embeddings), cosines, atol=1e-6)
    head(embeddings, labels).backward()
    assert head.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"scale": 0}, "positive scale"),
        ({"scale": math.nan}, "scale nan"),
        ({"scale": math.inf}, "scale inf"),
        ({"dimension": 0}, "0 dimensions"),
        ({"margin": -0.1}, "margin"),
        ({"margin": 1.6}, "margin"),
        ({"identities": 1}, "1 identities"),
    ],
)
def test_settings_that_make_no_sense_are_one_line(options, says):
    with pytest.raises(PapersError, match=says):
        ArcFace(**({"dimension": 4, "identities": 3} | options))


@pytest.mark.parametrize(
    ("rows", "labels"),
    [
        (2, torch.tensor([0.0, 1.0])),
        (2, torch.tensor([0, 1], dtype=torch.int32)),
        (3, torch.tensor([0, 1])),
        (2, torch.tensor([[0], [1]])),
        (0, torch.tensor([], dtype=torch.int64)),
    ],
)
def test_labels_that_are_not_one_a_row_are_one_line(rows, labels):
    with pytest.raises(PapersError, match=f"for {rows} embeddings; give one int64 identity each"):
        ArcFace(4, 3)(torch.randn(rows, 4), labels)
