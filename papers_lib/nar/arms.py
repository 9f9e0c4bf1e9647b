"""The runs of the study by name: Table 5's networks, searches, what is read from them, and the controls.

An arm says its kind, what it changes of the profile's settings, the arm that it starts from and the one that
it is held against. The paper has no control at all: no random vectors, no second seed, no ranking.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from papers_lib.nar.table_4 import PLACEMENTS

Kind = Literal["standalone", "search", "enumerate", "tau", "skips", "faces", "imagenet"]


class Arm(NamedTuple):
    """A run: its name, what readers see, its kind, how it differs, its sweep, and its relations."""

    name: str
    label: str
    kind: Kind
    changes: dict[str, Any]
    sweep: str
    needs: str = ""
    against: str = "base"


PAPER_8, PAPER_8_SECOND = PLACEMENTS["ResNet-18-8"]
PAPER_16, PAPER_16_SECOND = PLACEMENTS["ResNet-18-16"]
PLAIN = {"pretrain_epochs": 0}
SIXTEEN = {"decisions": 16}


def _vector(name: str, label: str, vector: tuple[int, ...], sweep: str, **more: Any) -> Arm:
    return Arm(name, label, "standalone", {"vector": vector, **more}, sweep)


def _taken(
    name: str, label: str, take: str, needs: str, sweep: str, against: str = "pick", **more: Any
) -> Arm:
    return Arm(name, label, "standalone", {"take": take, **more}, sweep, needs, against)


MAIN = (
    _vector("base", "ResNet-18, untouched", (), "main"),
    Arm("search", "Search with PreTrain", "search", {}, "main"),
    Arm("enumerate", "Every vector, weights of the search", "enumerate", {}, "main", "search"),
    _taken("pick", "Our pick, with PreTrain", "pick", "search", "main", "base"),
    _taken("best_random", "Best of random vectors at equal cost", "best_random", "enumerate", "main"),
    _vector("paper_8", "Paper's ResNet-18-8", PAPER_8, "main"),
    _vector("paper_16", "Paper's ResNet-18-16", PAPER_16, "main", **SIXTEEN),
    Arm("search_plain", "Search without PreTrain", "search", PLAIN, "main", against="search"),
    _taken("pick_plain", "Our pick, without PreTrain", "pick", "search_plain", "main"),
)
CONTROLS = (
    _taken("random_same", "Random, as many replacements as our pick", "random_same", "search", "controls"),
    _taken("optimum", "Best of all vectors by shared score", "optimum", "enumerate", "controls"),
    _taken("single", "Best single replacement by shared score", "single", "enumerate", "controls"),
    _vector("single_cheapest", "Cheapest single replacement, FLOPs only", (), "controls"),
    _taken("argmax", "Likeliest vector of the controller", "argmax", "search", "controls"),
    _vector("paper_8_second", "ResNet-18-8, second reading", PAPER_8_SECOND, "controls"),
    _vector("paper_16_second", "ResNet-18-16, second reading", PAPER_16_SECOND, "controls", **SIXTEEN),
    Arm("enumerate_plain", "Every vector, weights without PreTrain", "enumerate", {}, "controls",
        "search_plain", "enumerate"),
)  # fmt: skip
TAUS = (
    Arm("tau", "Ranking by shared weights, with PreTrain", "tau", {}, "tau", "search", ""),
    Arm("tau_plain", "Ranking by shared weights, without PreTrain", "tau", {}, "tau", "search_plain", "tau"),
)
SIXTEENS = (
    Arm("search_16", "Search of 16 decisions", "search", SIXTEEN, "sixteen", against="search"),
    Arm("beam_16", "Beam search, weights of the search", "enumerate", SIXTEEN, "sixteen", "search_16", ""),
    _taken("pick_16", "Our pick of 16 decisions", "pick", "search_16", "sixteen", "base", **SIXTEEN),
    _taken("random_same_16", "Random, as many replacements, 16", "random_same", "search_16", "sixteen",
           "pick_16", **SIXTEEN),
    _taken("best_beam_16", "Best of the beam search, 16", "optimum", "beam_16", "sixteen", "pick_16",
           **SIXTEEN),
    _taken("best_random_16", "Best of random vectors at equal cost, 16", "best_random", "beam_16", "sixteen",
           "pick_16", **SIXTEEN),
)  # fmt: skip
ABLATIONS = (
    Arm("search_cost", "Search, MACs in the reward", "search", {"cost_weight": 0.1}, "ablations",
        against="search"),
    _taken("pick_cost", "Our pick, MACs in the reward", "pick", "search_cost", "ablations"),
    Arm("search_fair", "Search, strictly fair PreTrain", "search", {"pretrain_sampling": "strict_fair"},
        "ablations", against="search"),
    Arm("search_6", "Search of six candidates", "search", {"operators": 6}, "ablations", against="search"),
)  # fmt: skip
OTHERS = (
    Arm("skips", "Skips without the penalty, simulated reward", "skips", {}, "skips", against=""),
    Arm("skips_flat", "The same, a reward that skips do not change", "skips", {"gain": 0.0}, "skips",
        against="skips"),
    Arm("skips_penalty", "The same with the penalty", "skips", {"weight": 0.8}, "skips", against="skips"),
    Arm("faces", "LResNet50E-IR, untouched", "faces", {}, "faces", against=""),
    *(
        Arm(f"faces_{count}", f"LResNet50E-IR, {count} random replacements", "faces",
            {"replacements": count}, "faces", against="faces")
        for count in (5, 8)  # as many as the paper's two searches replaced
    ),
)  # fmt: skip
IMAGENETS = (
    Arm("imagenet", "ResNet-18, untouched, ImageNet", "imagenet", {}, "imagenet", against=""),
    Arm("imagenet_8", "Paper's ResNet-18-8, ImageNet", "imagenet", {"vector": PAPER_8}, "imagenet",
        against="imagenet"),
    Arm("imagenet_16", "Paper's ResNet-18-16, ImageNet", "imagenet", {"vector": PAPER_16}, "imagenet",
        against="imagenet"),
)  # fmt: skip
ARMS = {arm.name: arm for arm in (*MAIN, *CONTROLS, *TAUS, *SIXTEENS, *ABLATIONS, *OTHERS, *IMAGENETS)}
SWEEPS = tuple(dict.fromkeys(arm.sweep for arm in ARMS.values()))
STANDALONE = tuple(arm.name for arm in ARMS.values() if arm.kind == "standalone")
