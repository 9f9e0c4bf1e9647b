"""Every public function on arrays: any kind of input and state of the process give the same, or one line."""

import contextlib
import functools
import operator
import threading

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn.functional import normalize

from papers_lib import arrays, compute
from papers_lib.errors import PapersError
from papers_lib.evaluation import clustering, collapse, large_gallery, probes, retrieval, verification
from papers_lib.median_triplet import augment, heads
from papers_lib.nar import arcface, counting, sampling
from papers_lib.quadruplet_cars196 import losses, selection
from papers_lib.quadruplet_cars196.baselines import BASELINES, class_batches
from papers_lib.sampler_study import diagnosis, pseudo_labels, samplers
from papers_lib.sampler_study import losses as proxies
from papers_lib.sampler_study.baselines import mmcl_loss, spcl_loss

N, CLASSES = 60, 6
X = normalize(torch.randn(N, 16, generator=torch.Generator().manual_seed(0)))
Y = torch.arange(N) % CLASSES
UNTOUCHED = X.clone(), Y.clone()
IMAGES = (torch.arange(2 * 8 * 8 * 3) % 256).to(torch.uint8).view(2, 8, 8, 3)


def generator():
    return torch.Generator().manual_seed(0)


def quadruplets(selected):
    return selected.quadruplets, selected.positive_fallback, selected.sibling_fallback


def moved(x, y):
    memory = X[:CLASSES].clone()
    proxies.update_memory(memory, x, y)
    return memory


FUNCTIONS = {
    "recall_at_k": retrieval.recall_at_k,
    "map_at_r": retrieval.map_at_r,
    "scores": lambda x, y: retrieval.scores(x, y, chunk=30),
    "cmc_map": lambda x, y: retrieval.cmc_map(x, x, y, y, y, [9] * N),
    "rank_one": lambda x, y: large_gallery.rank_one(x, x, y, y, block=7),
    "fuse_flips": lambda x, y: large_gallery.fuse_flips(x, x),
    "nmi": lambda x, y: (clustering.nmi(x, y, [0]).nmi, clustering.nmi(x, y, [0]).ami),
    "effective_rank": lambda x, y: collapse.effective_rank(x),
    "std_of_normalised": lambda x, y: collapse.std_of_normalised(x),
    "clusters": lambda x, y: collapse.clusters(x, 0.5),
    "knn_accuracy": lambda x, y: probes.knn_accuracy(x, y, x, y, k=3),
    "linear_probe": lambda x, y: probes.linear_probe(x, y, x, y, lrs=[1.0], epochs=2)["accuracy"],
    "face_distances": lambda x, y: verification.face_distances(x, x),
    "cluster": lambda x, y: pseudo_labels.cluster(x, 6, 2, 0.7, 2),
    "jaccard_graph": lambda x, y: pseudo_labels.jaccard_graph(x, 6, 2).toarray(),
    "proxies": lambda x, y: pseudo_labels.proxies(y, y),
    "purity": lambda x, y: diagnosis.purity(y, y),
    "camera_aware_loss": lambda x, y: proxies.camera_aware_loss(x, y, X[:6], range(6), [0, 0, 0, 1, 1, 1]),
    "proxy_means": proxies.proxy_means,
    "update_memory": moved,
    "select": lambda x, y: quadruplets(selection.select(x, y, Y % 3)),
    "select random": lambda x, y: quadruplets(
        selection.select(x, y, Y % 3, "random", anchors=y, generator=generator())
    ),
    "quadruplet distances": lambda x, y: losses.distances(x, [[0, 1, 2, 3], [3, 2, 1, 0]]),
    "classification_loss": lambda x, y: losses.classification_loss(x, x, y, y),
    "class_batches": lambda x, y: class_batches(y, 2, 2, 3, generator()),
    "rank_k_triplet": lambda x, y: heads.rank_k_triplet(x, x),
    "smoothed_triplet": lambda x, y: heads.smoothed_triplet(x, x),
    "selected": lambda x, y: heads.selected(x, x, 3),
    "group sampler": lambda x, y: samplers.GroupSampler(y, 4, batch_size=8).batches(),
    "random sampler": lambda x, y: list(samplers.RandomSampler(y, batch_size=8)),
    "triplet sampler": lambda x, y: samplers.TripletSampler(
        y, 4, 2, cameras=y, prefer_other_cameras=True
    ).batches(),
    "visits": lambda x, y: samplers.visits([range(9), Y[:3]], y),
    "count": lambda x, y: counting.count(y if np.ndim(y) == 0 else y[:8]),
    "spcl_loss": lambda x, y: spcl_loss(x, y, X[:6], [0, 0, 1, 1, 2, 3]),
    "mmcl_loss": lambda x, y: mmcl_loss(x, X[:6], np.arange(6) == Y.numpy()[:, None]),
}
FUNCTIONS |= {name: lambda x, y, loss=loss: loss(x, y) for name, loss in BASELINES.items()}
# These compute half precision in float32; losses compute in what they are given.
EVALUATION = {"recall_at_k", "map_at_r", "scores", "cmc_map", "rank_one", "nmi", "effective_rank"}
EVALUATION |= {"std_of_normalised", "clusters", "knn_accuracy", "linear_probe", "face_distances"}
SAMPLERS = [name for name in FUNCTIONS if "sampler" in name]
# Without features or labels, but with tensors of their own.
MAKERS = {
    "view": lambda: augment.view(IMAGES, augment.RECIPES["byol"][0], generator()),
    "view of an array": lambda: augment.view(IMAGES.numpy(), augment.RECIPES["moco_v2"][1], generator(), 5),
    "plain": lambda: augment.plain(IMAGES, 6),
    "draw_size": lambda: augment.draw_size(generator(), 4, 99),
    "uniform": lambda: sampling.uniform(5, 8, generator=generator()),
    "strict_fair": lambda: sampling.strict_fair(5, 8, generator=generator()),
    "replaced": lambda: sampling.replaced(5, 8, 2, generator=generator()),
    "singles": lambda: sampling.singles(3),
}


def flat(found):
    """Anything that these functions give, as one list of numbers."""
    if isinstance(found, dict):
        return [number for value in found.values() for number in flat(value)]
    if isinstance(found, (tuple, list)):
        return [number for value in found for number in flat(value)]
    return np.asarray(torch.as_tensor(found).detach().cpu(), dtype=np.float64).ravel().tolist()


FUNCTIONS_AND_MAKERS = FUNCTIONS | {name: lambda x, y, f=maker: f() for name, maker in MAKERS.items()}
RESULTS = {name: function(X, Y) for name, function in FUNCTIONS_AND_MAKERS.items()}
PLAIN = {name: flat(result) for name, result in RESULTS.items()}


def read_only(array):
    array = np.array(array)
    array.flags.writeable = False
    return array


FEATURES = {
    "read-only": lambda x: read_only(x.numpy()),
    "float64": lambda x: x.double(),
    "big-endian": lambda x: x.numpy().astype(">f4"),
    "long double": lambda x: x.numpy().astype(np.longdouble),
    "list": lambda x: x.tolist(),
    "list of tensors": list,
    "frame": lambda x: pd.DataFrame(x.numpy()),
    "Fortran order": lambda x: np.asfortranarray(x.numpy()),
    "negative strides": lambda x: x.numpy()[::-1, ::-1].copy()[::-1, ::-1],
    "transposed": lambda x: x.T.contiguous().T,
    "requires_grad": lambda x: x.clone().requires_grad_(),
}
LABELS = {
    "read-only": lambda y: read_only(y.numpy()),
    **{kind: lambda y, kind=kind: y.numpy().astype(kind) for kind in ("u1", "i2", "u4", ">i4", "u8")},
    "int32": lambda y: y.int(),
    "list": lambda y: y.tolist(),
    "Series": lambda y: pd.Series(y.numpy(), index=range(100, 100 + N)),
    "nullable Series": lambda y: pd.Series(y.numpy()).astype("Int64"),
    "categories": lambda y: pd.Series(y.numpy()).astype("category"),
    "list of tensors": list,
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_kind_of_array_gives_the_same(name):
    function = FUNCTIONS[name]
    for kind, given in FEATURES.items():
        assert flat(function(given(X), Y)) == pytest.approx(PLAIN[name], abs=2e-5), kind
    for kind, given in LABELS.items():
        assert flat(function(X, given(Y))) == pytest.approx(PLAIN[name], abs=2e-5), kind
    for dtype in (torch.float16, torch.bfloat16) if name in EVALUATION else ():
        assert flat(function(X.to(dtype), Y)) == pytest.approx(
            flat(function(X.to(dtype).float(), Y)), abs=1e-6
        )
    assert torch.equal(X, UNTOUCHED[0]) and torch.equal(Y, UNTOUCHED[1])


def test_a_gradient_passes_through_every_loss():
    d = X[:, 0].abs()
    for name, loss in {
        "rank_k_triplet": lambda x: heads.rank_k_triplet(x, x.roll(1, 0)),
        "smoothed_triplet": lambda x: heads.smoothed_triplet(x, x.roll(1, 0)),
        "camera_aware_loss": lambda x: proxies.camera_aware_loss(x, Y, X[:6], range(6), [0, 0, 0, 1, 1, 1]),
        "combined_loss": lambda x: losses.combined_loss(*losses.distances(x, [[0, 1, 2, 3], [9, 8, 7, 6]])),
        "classification_loss": lambda x: losses.classification_loss(x, 2 * x, Y, Y),
        "contrastive_loss": lambda x: losses.contrastive_loss(x[:, 0], d > 0.2, 0.5).sum(),
        "triplet_loss": lambda x: losses.triplet_loss(x[:, 0], d.tolist(), 0.5).sum(),
        "ArcFace": lambda x: arcface.ArcFace(16, 6)(x, Y),
    }.items():
        x = X.clone().requires_grad_()
        loss(x).backward()
        assert x.grad is not None and x.grad.abs().sum() > 0, name
        leaves = [row.clone().requires_grad_() for row in X]
        loss(arrays.tensor("features", leaves)).backward()
        assert leaves[0].grad is not None, name


NAN, INF = X.clone(), X.clone()
NAN[3, 2], INF[3, 2] = torch.nan, -torch.inf
BAD_FEATURES = {
    "1-D": X[:, 0],
    "3-D": X[None],
    "empty": X[:0],
    "no columns": X[:, :0],
    "NaN": NAN,
    "infinite": INF.numpy(),
    "complex": X * 1j,
    "objects": X.numpy().astype(object),
    "text": [["1", "2"]] * N,
    "ragged": [[1.0], [1.0, 2.0]],
    "ragged tensors": [X[0], X[1, :3]],
    "masked": np.ma.masked_greater(X.numpy(), 0.5),
    "missing": pd.DataFrame(X.numpy()).astype("Float64").mask(X.numpy() > 0.5),
    "dates": np.zeros((N, 2), "M8[s]"),
    "a set": {1, 2},
    "sparse": X.to_sparse(),
    "meta": X.to("meta"),
}
BAD_LABELS = {
    "too few": Y[1:],
    "2-D": Y[None],
    "one number": 3,
    "floats": Y.double(),
    "fractions": Y.numpy() + 0.5,
    "Boolean": Y > 2,
    "Boolean list": (Y > 2).tolist(),
    "text": [str(y) for y in Y.tolist()],
    "objects": Y.numpy().astype(object),
    "missing": pd.Series(Y.numpy()).where(Y.numpy() > 0),
    "missing, nullable": pd.Series(Y.numpy()).astype("Int64").where(Y.numpy() > 0),
    "beyond int64": Y.numpy().astype("u8") + 2**63,
    "huge": [10**30] * N,
    "complex": Y.numpy() * 1j,
    "masked": np.ma.masked_greater(Y.numpy(), 2),
}
# What the evaluation says of these; losses and samplers have words of their own.
SAYS = dict.fromkeys(("NaN", "infinite"), arrays.BROKEN)
SAYS |= dict.fromkeys(("1-D", "3-D"), r"they must be \[N, d\]")
SAYS |= dict.fromkeys(("empty", "no columns"), r"they must be \[N, d\]|N ≥")
SAYS |= dict.fromkeys(("too few", "2-D", "floats", "Boolean"), "they must be integers")
SAYS |= dict.fromkeys(("text", "objects", "complex", "masked", "a set", "dates"), "no real numbers")


def refusal(says, function, *given):
    with pytest.raises(PapersError, match=says) as error:
        function(*given)
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


# What a function does not take, or takes in any number; and what a loss does not wait for a GPU to see.
NO_FEATURES = {"proxies", "purity", "class_batches", "visits", "count", *SAMPLERS}
NO_LABELS = {
    f for f in FUNCTIONS if f.endswith(("_triplet", "selected", "rank", "normalised", "flips", "graph"))
}
NO_LABELS |= {"clusters", "cluster", "face_distances", "quadruplet distances", "mmcl_loss"}
ANY_NUMBER = {*NO_FEATURES, "select random"}
UNSEEN = {"rank_k_triplet", "smoothed_triplet", "classification_loss", "quadruplet distances", *BASELINES}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_rest_is_refused_in_one_line(name):
    says = SAYS if name in EVALUATION else {}
    for kind, x in {} if name in NO_FEATURES else BAD_FEATURES.items():
        if name not in UNSEEN or kind not in ("NaN", "infinite", "no columns"):
            refusal(says.get(kind), FUNCTIONS[name], x, Y)
    for kind, y in {} if name in NO_LABELS else BAD_LABELS.items():
        mask = name == "select random" and kind.startswith("Boolean")
        plain = name == "count" and kind == "objects"  # Python's own whole numbers
        if not mask and not plain and (name not in ANY_NUMBER or kind != "too few"):
            refusal(says.get(kind), FUNCTIONS[name], X, y)


@pytest.mark.parametrize(
    ("anchors", "says"),
    [
        ([0, N], "0 to 59"),
        ([-1], "0 to 59"),
        ([0.0, 1.0], "float64"),
        (Y[1:] > 2, "60 rows"),
        ([True] * N + [False], "60 rows"),
        (7, "integers"),
    ],
)
def test_anchors_are_rows_or_a_mask(anchors, says):
    refusal(says, lambda: selection.select(X, Y, Y % 3, anchors=anchors))


@pytest.mark.parametrize("given", [Y == 3, (Y == 3).numpy(), (Y == 3).tolist(), pd.Series((Y == 3).numpy())])
def test_a_mask_chooses_the_rows_that_it_marks(given):
    rows = (Y == 3).nonzero()[:, 0]
    found = selection.select(X, Y, Y % 3, anchors=given).quadruplets
    assert torch.equal(found, selection.select(X, Y, Y % 3, anchors=rows).quadruplets)
    assert not len(selection.select(X, Y, Y % 3, anchors=[]).quadruplets)


@pytest.mark.parametrize(
    "ks", [4, [4], (4,), np.array([4], "u1"), torch.tensor(4), pd.Series([4]), range(4, 5)]
)
def test_one_k_or_several(ks):
    assert retrieval.recall_at_k(X, Y, ks) == {4: retrieval.recall_at_k(X, Y)[4]}
    assert clustering.nmi(X, Y, ks).seeds == (4,)


@pytest.mark.parametrize("ks", [0, [-1], 1.0, "1", ["1"], True, [True], None, [None], np.array([1.5])])
def test_a_k_that_is_no_whole_number_is_refused(ks):
    for function in (retrieval.recall_at_k, retrieval.scores):
        refusal("whole number", function, X, Y, ks)
        refusal("whole number", lambda f=function: f(X, Y, chunk=ks))


def test_a_memory_that_would_be_copied_is_refused():
    for memory in (X[:6].tolist(), X[:6].numpy(), torch.ones(6, 16, dtype=torch.int64)):
        refusal("in place", proxies.update_memory, memory, X, Y)


# States of the process ------------------------------------------------------------------------------


@contextlib.contextmanager
def setting(change, value, usual):
    """`change` the process to `value`, and back to what is usual."""
    change(value)
    try:
        yield
    finally:
        change(usual)


NEW = hasattr(torch.backends.cuda.matmul, "fp32_precision")


def switches():
    """All that `exact` may touch, as the process has it."""
    backends, present = torch.backends, ()
    if NEW:
        present = (backends, backends.cuda.matmul, backends.cudnn, backends.cudnn.conv, backends.cudnn.rnn)
        present += (backends.mkldnn, backends.mkldnn.matmul, backends.mkldnn.conv)
    try:
        old = torch.get_float32_matmul_precision()
    except RuntimeError:
        old = "mixed"
    return [
        old,
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.is_autocast_enabled("cuda"),
        [each.fp32_precision for each in present],
    ]


def precision(place, value):
    """By torch's present interface."""
    if not NEW:
        pytest.skip("this torch has the old interface alone")
    owner = operator.attrgetter(place)(torch)
    return setting(functools.partial(setattr, owner, "fp32_precision"), value, owner.fp32_precision)


def old_precision(value):
    return setting(torch.set_float32_matmul_precision, value, "highest")


@contextlib.contextmanager
def both_interfaces():
    with old_precision("high"), precision("backends.mkldnn.matmul", "bf16"):
        yield


STATES = {
    "float64": lambda: setting(torch.set_default_dtype, torch.float64, torch.float32),
    "bfloat16": lambda: setting(torch.set_default_dtype, torch.bfloat16, torch.float32),
    "meta": lambda: setting(torch.set_default_device, "meta", None),
    "within a device": lambda: torch.device("meta"),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "deterministic": lambda: setting(torch.use_deterministic_algorithms, True, False),
    "medium": lambda: old_precision("medium"),
    "high": lambda: old_precision("high"),
    "both interfaces": both_interfaces,
    "all tf32": lambda: precision("backends", "tf32"),
    "matmul tf32": lambda: precision("backends.cuda.matmul", "tf32"),
    "matmul bf16 on the CPU": lambda: precision("backends.mkldnn.matmul", "bf16"),
}


@pytest.mark.parametrize("state", STATES)
def test_no_state_of_the_process_changes_a_result(state):
    with STATES[state]():
        before = switches()
        found = {}
        for name, function in FUNCTIONS_AND_MAKERS.items():
            found[name] = function(X, Y)
            assert switches() == before, name
            assert getattr(found[name], "dtype", None) == getattr(RESULTS[name], "dtype", None), name
    for name, result in found.items():
        assert flat(result) == PLAIN[name], name


@pytest.mark.skipif(not NEW, reason="this torch has the old interface alone")
@pytest.mark.parametrize("level", ["backends", "backends.cudnn"])
def test_a_precision_that_is_inherited_stays_so(level):
    """What a setting above gives is changed there afterwards and counts below; what is set below stays."""
    with precision("backends.mkldnn.conv", "tf32"), precision("backends.cuda.matmul", "none"):
        with precision(level, "tf32"):
            with compute.exact():
                assert not {"tf32", "bf16"} & set(switches()[-1][1:4:2] + switches()[-1][-2:])
            assert torch.backends.cuda.matmul.fp32_precision == "tf32"
        assert torch.backends.cuda.matmul.fp32_precision == "none"
        assert torch.backends.cudnn.conv.fp32_precision == torch.backends.mkldnn.conv.fp32_precision == "tf32"


def test_the_old_interface_alone_is_enough(monkeypatch):
    """Before torch 2.9 there is no other."""
    monkeypatch.setattr(compute, "hasattr", lambda *_: False, raising=False)
    for value in ("highest", "high", "medium"):
        with old_precision(value):
            with compute.exact():
                assert torch.get_float32_matmul_precision() == "highest"
                assert not torch.backends.cudnn.allow_tf32
            assert torch.get_float32_matmul_precision() == value
            assert torch.backends.cudnn.allow_tf32


def test_exact_ends_with_an_error_and_in_any_order_of_threads():
    """Threads share the settings: the last to leave puts them back, and none computes without."""
    first, second = threading.Event(), threading.Event()
    seen = []

    def work():
        with compute.exact():
            first.set()
            second.wait(10)
            seen.append(torch.get_default_dtype())

    with STATES["float64"](), old_precision("high"):
        before = switches()
        thread = threading.Thread(target=work)
        with pytest.raises(PapersError), compute.exact():
            thread.start()
            first.wait(10)
            raise PapersError("an error within")
        assert torch.get_default_dtype() == torch.float32  # the other is at work
        second.set()
        thread.join()
        assert seen == [torch.float32]
        assert switches() == before


# Far from the origin, and ties ----------------------------------------------------------------------

CLUMPS = 0.5 * torch.randn(20, 16, generator=generator())[torch.arange(400) % 20]
CLUMPS += 0.5 * torch.randn(400, 16, generator=torch.Generator().manual_seed(1))
OF = torch.arange(400) % 20
RANKED = ("recall_at_k", "map_at_r", "scores", "rank_one", "nmi", "knn_accuracy")
FAR = {name: FUNCTIONS[name] for name in RANKED}
FAR["cmc_map"] = lambda x, y: retrieval.cmc_map(x, x, y, y, y * 0, y * 0 + 1)
FAR["select"] = lambda x, y: selection.select(x, y, y % 4).quadruplets
FAR["cluster"] = lambda x, y: pseudo_labels.cluster(x, 10, 4, 0.6)


@pytest.mark.parametrize("shift", [30, 1000, -3000])
@pytest.mark.parametrize("name", FAR)
def test_distances_hold_far_from_the_origin(name, shift):
    """Against float64 of the same float32 numbers, whose distances have digits to spare."""
    x = CLUMPS + shift
    assert flat(FAR[name](x, OF)) == pytest.approx(flat(FAR[name](x.double(), OF)), abs=0.015)


@pytest.mark.parametrize("size", [2.0**-100, 2.0**-60, 2.0**100])
@pytest.mark.parametrize("name", [name for name in FAR if name not in ("cluster", "nmi", "rank_one")])
def test_no_size_of_the_features_is_too_small_or_too_large(name, size):
    assert flat(FAR[name](CLUMPS * size, OF)) == flat(FAR[name](CLUMPS, OF))


@pytest.mark.parametrize("d", [1, 7, 2048])
@pytest.mark.parametrize("value", [0.0, 0.1, -3.7, 1000.1])
def test_features_that_are_all_equal_score_nothing(value, d):
    """A row of random numbers, the same for all images; zeros; in blocks of odd shapes."""
    x = (value * torch.randn(1, d, generator=generator())).repeat(61, 1)
    y, none = torch.arange(61) % 6, pytest.approx(0)
    for chunk in (7, 30, 1536):
        assert retrieval.scores(x, y, chunk=chunk) == {"R@1": 0, "R@2": 0, "R@4": 0, "R@8": 0, "MAP@R": 0}
        assert set(retrieval.recall_at_k(x, y, chunk=chunk).values()) == {0}
    found = retrieval.cmc_map(x, x, y, y, y * 0, y * 0 + 1)
    assert (found["R1"], found["R10"]) == (0, 0) and found["mAP"] < 0.2
    assert set(large_gallery.rank_one(x, x, y, y, block=7).values()) == {0}
    assert clustering.nmi(x, y, [0]).nmi == clustering.nmi(x, y, [0]).ami == (none,)
    # The commonest class, 11 of 61, wins every vote.
    assert probes.knn_accuracy(x, y, x, y, k=61) == pytest.approx(11 / 61)
    assert len(pseudo_labels.cluster(x, 6, 2).unique()) <= 2
    assert collapse.std_of_normalised(x) == pytest.approx(0, abs=1e-6)
    found = selection.select(x, y, y % 3)
    assert found.positive_fallback.all() and found.sibling_fallback.all()  # nothing lies outside


def test_duplicates_are_ties_whatever_the_rest():
    """Five points, each many times and in all classes: every match has a stranger as near."""
    points = torch.randn(5, 33, generator=generator())
    which, y = torch.arange(300) % 5, torch.arange(300) // 5 % 4
    # Of a query's 59 copies 45 are strangers and come first; its 14 matches follow, within R = 74.
    map_at_r = sum(j / (45 + j) for j in range(1, 15)) / 74
    for x in (points[which], points[which] + 1000, 1e-3 * points[which] - 7):
        for chunk in (7, 64, 1536):
            assert set(retrieval.recall_at_k(x, y, (1, 8), chunk).values()) == {0}
            found = retrieval.scores(x, y, (1, 8), chunk)
            assert (found["R@1"], found["R@8"], found["MAP@R"]) == (0, 0, pytest.approx(map_at_r))


@pytest.mark.parametrize("shift", [0, 1000])
def test_whole_numbers_keep_their_ties_far_from_the_origin(shift):
    x = torch.randint(4, (60, 5), generator=generator()).float()
    y = torch.arange(60) % 7
    distances = torch.cdist(x.double(), x.double())
    match = (y[:, None] == y) & ~torch.eye(60, dtype=torch.bool)
    best = distances.masked_fill(~match, torch.inf).amin(1)
    ahead = ((distances <= best[:, None]) & (y[:, None] != y)).sum(1)
    want = {k: float((ahead < k).double().mean()) for k in (1, 4)}
    assert retrieval.recall_at_k(x + shift, y, (1, 4)) == pytest.approx(want)
