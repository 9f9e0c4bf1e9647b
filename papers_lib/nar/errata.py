"""What is wrong, or missing, in the paper: shown by code from its own numbers where that can be."""

from __future__ import annotations

import math

import pandas as pd

from papers_lib.exhibits.claims import Erratum
from papers_lib.exhibits.table import Table
from papers_lib.nar import printed, table_4
from papers_lib.nar.counting import count, count_all
from papers_lib.nar.operators import RULES
from papers_lib.nar.printed import numbers
from papers_lib.nar.table_4 import MODELS, PLACEMENTS

EIGHT, SIXTEEN = "ResNet-18-8", "ResNet-18-16"


def errata() -> list[Erratum]:
    """E1 … E17."""
    value = numbers()
    computed = (
        _lengths, _flops, _operators, _identities, _images, _noise, _truncated, _weak, _controls, _deeper,
        _ceiling, _faces,
    )  # fmt: skip
    found = [*(erratum(value) for erratum in computed), *_words()]
    return sorted(found, key=lambda erratum: int(erratum.name[1:]))


def tables() -> dict[str, Table]:
    """What the printed numbers and exact counts say without a run."""
    return {**table_4.tables(), **printed.tables()}


def _lengths(value: pd.Series) -> Erratum:
    lengths = {model: len(table_4.as_printed(model)) for model in MODELS}
    decisions = {model: int(value["text", model, "decisions"]) for model in (EIGHT, SIXTEEN)}
    vectors = table_4.insertions(table_4.as_printed(SIXTEEN))
    places = [", ".join(str(i) for i, code in enumerate(vector) if code) for vector in vectors]
    shown = value["Table 4", SIXTEEN, table_4.PARAMETERS]
    near = sorted(vectors, key=lambda vector: abs(count(vector).parameters - shown))[:2]
    short = all(lengths[model] == decisions[model] - 1 for model in decisions)
    return Erratum(
        "E1", "Table 4, Architecture", f"vectors of {', '.join(map(str, lengths.values()))} entries",
        f"{' and '.join(map(str, decisions.values()))} decisions: one entry is missing in each row",
        f"one more zero makes {len(places)} vectors of {SIXTEEN}, non-zero at {'; '.join(places)}; the last "
        "two, which count alike, are nearest to the printed parameters",
        True, bool(short and set(near) == set(PLACEMENTS[SIXTEEN])),
    )  # fmt: skip


def _flops(value: pd.Series) -> Erratum:
    shown = float(value["Table 4", "ResNet-18", table_4.FLOPS])
    exact = count(PLACEMENTS["ResNet-18"][0]).multiply_accumulates
    low, high = table_4.common_factor()
    usual = value["torchvision", "resnet18", "multiply-accumulates"]
    ordinary = (hit for hit in table_4.scan() if hit.convention == table_4.ORDINARY)
    best = max(hit.parameters + hit.flops for hit in ordinary)
    text = table_4.printed_cells("ResNet-18")[table_4.FLOPS]
    return Erratum(
        "E2", "Table 4, FLOPS", f"{text} for ResNet-18", f"{exact / 1e9:.3f}e9 (torchvision: {usual}e9)",
        f"counting shortcuts and classifier gives {best} of the 6 printed numbers under the best of "
        f"{len(list(table_4.readings()))} readings; one factor in [{low:.4f}, {high:.4f}] maps all three",
        True, bool(abs(shown - exact) > 5e6 and low <= high and best < 6),
    )  # fmt: skip


def _operators(value: pd.Series) -> Erratum:
    vector = PLACEMENTS[SIXTEEN][0]
    shown = float(value["Table 4", SIXTEEN, table_4.PARAMETERS]) / 1e7
    bare = count(vector, rule="bare").parameters / 1e7
    saved = {rule: [round(100 * table_4.savings(rule)[m], 1) for m in (EIGHT, SIXTEEN)] for rule in RULES}
    words = [value["text", model, "less FLOPS"] for model in (EIGHT, SIXTEEN)]
    fits = [rule for rule, found in saved.items() if [round(x) for x in found] == words]
    return Erratum(
        "E3", "Section 3.1", "non-parameterized pools, and depthwise convolutions",
        "Table 4 needs a 1×1 convolution beside both: ENAS's candidates are separable, not depthwise",
        f"bare operators give {bare:.2f}e7 parameters against {shown:.2f}e7; savings in % "
        + "; ".join(f"{rule} {a} and {b}" for rule, (a, b) in saved.items())
        + f"; printed {' and '.join(f'{x:g}' for x in words)}",
        True, bool(abs(bare - shown) > 0.005 and fits == ["A"]),
    )  # fmt: skip


def _identities(value: pd.Series) -> Erratum:
    images, people = (int(value["settings", "face emore V1", c]) for c in ("images", "identities"))
    right = int(value["data sets", "faces_ms1m (emore V1)", "images"])
    digits = str(right)
    lost = str(images) in {digits[:i] + digits[i + 1 :] for i in range(len(digits))}
    return Erratum(
        "E4", "Section 4.1.1", f"{images:,} images of {people:,} identities", f"{right:,} images",
        f"{images / people:.1f} images an identity; {right:,} without one of its digits is as printed",
        True, lost,
    )  # fmt: skip


def _images(value: pd.Series) -> Erratum:
    shown, right = (int(value[where, "LFW", "images"]) for where in ("settings", "data sets"))
    agedb = [int(value["settings", "AgeDB", c]) for c in ("images", "identities")]
    return Erratum(
        "E5", "Section 4.1.1, test data", f"LFW: {shown:,} images, cited as QLFW (SPIE 2015)",
        f"{right:,} images, Huang et al. 2007",
        f"off by {abs(right - shown):,}; AgeDB as first published has more than the printed {agedb[0]:,} "
        f"images of {agedb[1]} subjects, and what is evaluated is its part AgeDB-30 (Section 1)",
        True, shown != right,
    )  # fmt: skip


def _noise(value: pd.Series) -> Erratum:
    found = printed.gains(value)
    worse = [gain for gain in found if gain.points < 0]
    return Erratum(
        "E8", "Table 5, Section 1", "gains, without seeds or error bars",
        "all differences are inside the noise; what is supported is “equal with fewer operations”",
        "; ".join(f"{g.model} {g.data} {g.points:+.2f} = {round(g.gained)} of {g.items:,}, z = {g.z:.2f}"
                  for g in found),
        True, bool(all(abs(gain.z) < 1.96 for gain in found) and worse),
    )  # fmt: skip


def _truncated(value: pd.Series) -> Erratum:
    items = printed.sizes_of_tests(value)
    faces = {
        (model, data): float(value["text", model, data])
        for model in printed.FACES
        for data in ("LFW", "CFP-FP", "AgeDB-30")
    }
    found = {key: printed.multiples(shown, items[key[1]]) for key, shown in faces.items()}
    odd = {key: truncated for key, (rounded, truncated) in found.items() if not rounded}
    shares = "; ".join(
        f"{x} pairs are {100 * x / items[data]:.3f} %"
        for (_, data), near in odd.items() for x in range(near[0] - 1, near[0] + 1)
    )  # fmt: skip
    return Erratum(
        "E9", "Section 1", ", ".join(f"{data} {faces[model, data]} %" for model, data in odd) or "no number",
        "truncated, not rounded", f"{shares}; the other {len(found) - len(odd)} numbers are rounded shares",
        True, bool(len(odd) == 1 and all(odd.values())),
    )  # fmt: skip


def _weak(value: pd.Series) -> Erratum:
    base, gain = value["Table 5", "ResNet-18", "CIFAR-10"], printed.gains(value)[0].points
    usual = value["cifar10-airbench", "Standard ResNet-18 training", "accuracy"]
    return Erratum(
        "E11", "Table 5", f"baseline {base} % on CIFAR-10",
        f"a standard recipe reaches {usual:g} %",
        f"{usual - base:.1f} points below, {(usual - base) / gain:.0f} times the gain of {gain:+.2f}",
        True, bool(usual - base > 5 * gain),
    )  # fmt: skip


def _controls(value: pd.Series) -> Erratum:
    operations = count_all(8)[:, 1]
    base = int(operations[0])
    cheaper = int((operations[1:] < base).sum())
    median = 100 * (1 - float(pd.Series(operations).median()) / base)
    candidates = int(value["text", "search of a ResNet50", "operator candidates"])
    return Erratum(
        "E12", "Section 4.2.2", "fewer FLOPS as a result of the search",
        "no random baseline, PreTrain not ablated on CIFAR-10, its epochs not given; the reward is accuracy "
        f"alone, and all but one of {candidates} candidates are cheaper",
        f"{cheaper:,} of the {len(operations) - 1:,} other vectors of 8 blocks cost less than the untouched "
        f"network at 224 pixels, the median {median:.0f} % less",
        True, cheaper == len(operations) - 1,
    )  # fmt: skip


def _deeper(value: pd.Series) -> Erratum:
    depth = {model: printed.mean_depth(PLACEMENTS[model][0]) for model in (EIGHT, SIXTEEN)}
    gains = {(gain.model, gain.data): gain.points for gain in printed.gains(value)}
    ahead = [data for model, data in gains if model == SIXTEEN and gains[model, data] > gains[EIGHT, data]]
    return Erratum(
        "E13", "Sections 4.1.2 and 4.2.2", "deeper parts are more probable; NAR works better on deep models",
        "from one run each; Table 4's replacements lie in the earlier half on average, and Table 5 gains "
        "more with 8 decisions than with 16",
        "mean place of the replaced (0 first, 1 last): "
        + ", ".join(f"{model} {x:.2f}" for model, x in depth.items())
        + f"; 16 decisions gain more on {', '.join(ahead) or 'no data'}",
        True, bool(max(depth.values()) < 0.5 and not ahead),
    )  # fmt: skip


def _ceiling(value: pd.Series) -> Erratum:
    settings = value["ENAS, macro search"].xs("value", level=1)
    tanh, layers = float(settings["tanh constant"]), int(settings["layers"])
    penalty, sampled = (printed.skip_ceiling(tanh, x, layers) for x in (False, True))
    free = printed.skip_ceiling(math.inf, layers=layers)
    rate = 1 / (1 + math.exp(-2 * tanh))
    return Erratum(
        "E14", "Figure 1", "x is the KL value, y the number of epochs; the rising KL shows full connection",
        "the axes are swapped in the caption; a KL that levels off at its ceiling shows no full connection",
        f"ENAS's logits are capped by {tanh:g} · tanh: the KL of {layers} layers ends at {penalty:.2f} "
        f"({sampled:.2f} of what is sampled), of fully connected ones at {free:.2f}; a skip is then sampled "
        f"with {rate:.3f}",
        True, bool(penalty < 0.9 * free),
    )  # fmt: skip


def _faces(value: pd.Series) -> Erratum:
    shown = value["text", "NAR, LResNet50E-IR", "fewer FLOPS"] / 100
    names = ("LResNet50E-IR-Based", "LResNet50E-IR-Based-PreTrain")
    few, many = (int(value["text", name, "operators replaced"]) for name in names)
    ends = {(rule, n): table_4.face_savings(rule, 24, n) for rule in RULES for n in (few, many)}
    possible = {key for key, (low, high) in ends.items() if low <= shown <= high}
    return Erratum(
        "E17", "Section 1", f"{100 * shown:g} % fewer FLOPS",
        "an open question: what it takes depends on Table 1, which is not in our text",
        "whole blocks, least to most saved in %: "
        + "; ".join(f"{rule}, {n} replaced {100 * low:.1f}–{100 * high:.1f}" for (rule, n), (low, high) in
                    ends.items()),
        True, bool(("A", few) in possible and not {("A", many), ("bare", many)} & possible),
    )  # fmt: skip


def _words() -> list[Erratum]:
    text = "the paper's text"
    reading = [
        ("E6", "Section 4", "NAS has not been applied to face recognition",
         "it had been, with reinforcement learning as in ENAS", "Zhu, April 2019 (arXiv:1904.09523)"),
        ("E7", "References", "[12] for architecture search, [28] for too small a subset",
         "[12] searches optimisers; [28] is a review of Bishop's book", text),
        ("E10", "Section 1 and title", "overfitting is eased",
         "asserted, never measured: no training accuracy is given", text),
        ("E15", "Section 1", "10 GPU hours; FLOPS",
         "of which GPU is not said; FLOPS are operations a second, operations are meant", text),
        ("E16", "Section 4.2.2", "our experiment follow the search strategy [35]",
         "[35] is ResNet, which has none", text),
    ]  # fmt: skip
    return [Erratum(*row, computed=False, holds=True) for row in reading]
