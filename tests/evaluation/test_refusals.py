"""What each evaluation refuses beyond broken arrays (test_arrays.py): one line that says what is wrong."""

import sys

import numpy as np
import pytest
import torch

from papers_lib.errors import PapersError
from papers_lib.evaluation.clustering import nmi
from papers_lib.evaluation.collapse import effective_rank, std_of_normalised
from papers_lib.evaluation.detection import require
from papers_lib.evaluation.large_gallery import rank_one
from papers_lib.evaluation.probes import knn_accuracy, linear_probe
from papers_lib.evaluation.retrieval import cmc_map, map_at_r, recall_at_k, scores
from papers_lib.evaluation.verification import face_distances, tar_at_far, ten_fold

X = torch.randn(90, 6, generator=torch.Generator().manual_seed(0))
Y = torch.arange(90) % 5
NAN = X.clone()
NAN[3, 2] = torch.nan
ONES, MIXED = np.ones(4), [1, 0, 1, 0]
RETRIEVAL = (recall_at_k, map_at_r, scores)


def cmc(x=X, y=X, ids=Y, others=Y, cameras=0 * Y, seen_by=0 * Y + 1, **options):
    return cmc_map(x, y, ids, others, cameras, seen_by, **options)


def both(train=X, labels=Y, test=X, test_labels=Y, says=""):
    """A refusal of both probes."""
    data = train, labels, test, test_labels
    return [(lambda: knn_accuracy(*data, k=5), says), (lambda: linear_probe(*data, epochs=1), says)]


CASES = [
    # -- retrieval --
    *((lambda f=f: f(X, torch.arange(90)), "no class has two samples") for f in RETRIEVAL),
    # -- ranking for re-identification: the gallery's own faults, ids and cameras, options --
    (lambda: cmc(y=NAN), "gallery features hold NaN"),
    (lambda: cmc(x=NAN), "query features hold NaN"),
    (lambda: cmc(x=X[:, :5]), "5 dimensions"),
    (lambda: cmc(y=X[:, 0]), r"\[N, d\]"),
    (lambda: cmc(x=X[:0], ids=Y[:0], cameras=Y[:0]), "N ≥ 1"),
    (lambda: cmc(y=X[:0], others=Y[:0], seen_by=Y[:0]), "N ≥ 1"),
    (lambda: cmc(ids=Y[1:]), "query ids .* must be integers"),
    (lambda: cmc(seen_by=Y[:-1]), "gallery cameras .* must be integers"),
    (lambda: cmc(seen_by=0 * Y), "no query has a match"),
    (lambda: cmc(ids=0 * Y - 1), "no query has a match"),
    (lambda: cmc(ap="step"), "trapezoid"),
    (lambda: cmc(no_match="drop"), "skip or zero"),
    # -- large galleries, which are looked at block by block --
    (lambda: rank_one(X, NAN, Y, Y), "gallery features hold NaN"),
    (lambda: rank_one(X * torch.inf, X, Y, Y), "query features hold NaN"),
    (lambda: rank_one(X[:, :5], X, Y, Y), "5 dimensions"),
    (lambda: rank_one(X, X[:, 0], Y, Y), r"\[N, d\]"),
    (lambda: rank_one(X, X, Y + 3, Y), r"query 2 \(identity 5\) has no image of its identity in the gallery"),
    (lambda: rank_one(X[:0], X, Y[:0], Y), "query features .* N ≥ 1"),
    # -- clustering --
    (lambda: nmi(X, Y, ()), "seed"),
    (lambda: nmi(X, Y, (0,), 0), "k is 0"),
    (lambda: nmi(X, Y, (0,), 91), "k is 91"),
    # -- collapse --
    (lambda: std_of_normalised(X[:1]), "N ≥ 2"),
    (lambda: effective_rank(0 * X), "dead"),
    # -- probes --
    *both(train=NAN, says="training features hold NaN"),
    *both(test=NAN, says="test features hold NaN"),
    *both(labels=Y[1:], says=r"training labels are int64 \(89,\)"),
    *both(test=X[:, :5], says="have 6 dimensions and test features 5"),
    *both(labels=Y - 1, says="run from -1 to 3"),
    *both(labels=Y.clamp(max=3), says=r"test classes \[4\]"),
    *both(test_labels=Y + 2, says=r"test classes \[5, 6\]"),
    *both(X[:0], Y[:0], X[:0], Y[:0], says="N ≥ 1"),
    (lambda: knn_accuracy(X, Y, X, Y), "k=200 neighbours of 90 training images; give 1 <= k <= 90"),
    (lambda: knn_accuracy(X, Y, X, Y, k=0), "k is 0"),
    (lambda: knn_accuracy(X, Y, X, Y, k=5, tau=0), "tau=0 is no temperature"),
    (lambda: knn_accuracy(X, Y, X, Y, k=5, classes=3), "from 0 to 4; 3 classes are 0 … 2"),
    (lambda: linear_probe(X, Y, X, Y, lrs=()), "all are above 0"),
    (lambda: linear_probe(X, Y, X, Y, lrs=(0.1, -1)), "all are above 0"),
    (lambda: linear_probe(X, Y, X, Y, epochs=0), "epochs=0"),
    (lambda: linear_probe(X, Y, X, Y, batch_size=0), "batch_size=0"),
    (lambda: linear_probe(X, Y, X, Y, held_out=1.0), "held_out=1"),
    (lambda: linear_probe(X[:5], Y[:5], X, Y, epochs=1), "no class has two training images"),
    # -- verification --
    (lambda: ten_fold(np.ones(7), [1, 0, 1, 0, 1, 0, 1]), "7 pairs do not divide into 10 folds"),
    (lambda: ten_fold(ONES, MIXED, 1), "do not divide"),
    (lambda: ten_fold(ONES, MIXED, 2.5), "4 pairs do not divide into 2.5 folds; give a whole number"),
    (lambda: ten_fold(ONES, MIXED, "2"), "4 pairs do not divide into '2' folds"),
    (lambda: ten_fold(ONES, [1, 1, 1, 1], 2), "all 4 pairs are of one kind"),
    (lambda: ten_fold(ONES, [0, 0, 0, 0], 2), "all 4 pairs are of one kind"),
    (lambda: ten_fold(np.ones(0), [], 2), "no pairs"),
    (lambda: ten_fold(ONES, [1, 0, 1], 2), "give two of one length"),
    (lambda: ten_fold([1, np.nan, 1, 1], MIXED, 2), "not finite"),
    (lambda: ten_fold(ONES, [1, 0, 2, 0], 2), "other than 0 and 1"),
    (lambda: ten_fold(ONES, [1, 0, np.nan, 0], 2), "other than 0 and 1"),
    (lambda: ten_fold(ONES, ["1", "0", "1", "0"], 2), "answers of type <U1 are no real numbers"),
    (lambda: ten_fold(["1", "2", "3", "4"], MIXED, 2), "distances of type <U1 are no real numbers"),
    (lambda: ten_fold([[1], [2, 3]], [1, 0], 2), "distances of type object are no real numbers"),
    (lambda: ten_fold(ONES * 1j, MIXED, 2), "distances of type complex128 are no real numbers"),
    (lambda: ten_fold(torch.ones(4) * 1j, MIXED, 2), "distances of type complex64 are no real numbers"),
    *((lambda far=far: tar_at_far(ONES, MIXED, (far,)), "give 0 to 1") for far in (-0.1, 1.1, np.nan)),
    *(
        (lambda far=far: tar_at_far(ONES, MIXED, far), "rates of type .* no real")
        for far in ("0.1", ["0.1"], None)
    ),
    (lambda: face_distances(X[:5], X[:4]), r"\(5, 6\) and \(4, 6\)"),
]


@pytest.mark.parametrize(("call", "says"), CASES)
def test_bad_input_is_one_line(call, says):
    with pytest.raises(PapersError, match=says) as error:
        call()
    assert "\n" not in str(error.value)


def test_without_pycocotools_the_extra_is_named(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("pycocotools")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    with pytest.raises(PapersError, match=r"pip install -e '\.\[detection\]'") as error:
        require()
    assert "\n" not in str(error.value)
