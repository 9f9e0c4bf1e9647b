"""The paper's claims as statements that our runs can hold or break.

Numbers C1 … C19 are ours; a letter marks one of several statements. Comparisons are paired by seed and judged
in direction by `papers_lib.exhibits.verdicts`, never in the size that the paper prints. A statement marked
(ours) is not the paper's: it is a control, or speaks for another explanation.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from papers_lib.exhibits.claims import Claim
from papers_lib.exhibits.verdicts import Finding, Verdict, greater
from papers_lib.nar import printed, readings, table_4
from papers_lib.nar.arms import PAPER_8, PAPER_16
from papers_lib.nar.controls import depths
from papers_lib.nar.counting import count_all
from papers_lib.nar.readings import Runs, Values, named, percent, read

Row = tuple[str, str, str, str, str]  # name, arm, counterpart, statement, exhibit
FRAME = "same data, augmentation, recipe and seeds; only the vector differs"
MARGIN = 0.3  # points: the paper's own gain of .26, rounded up


def claims(runs: Runs) -> list[Claim]:
    """All claims with their findings."""
    parts: tuple[Callable[[Runs], list[Claim]], ...] = (
        _accuracy, _counts, _imagenet, _random, _diversity, _pretrain, _ranking, _depth, _deeper_nets,
        _convergence, _overfitting, _kernels, _skips, _hours, _space, _noise, _faces, _enumeration, _enas,
    )  # fmt: skip
    found = [claim for part in parts for claim in part(runs)]
    return sorted(found, key=lambda claim: (int(claim.name[1:].rstrip("abcdefgh")), claim.name))


def _compare(runs: Runs, sentence: str, rows: tuple[Row, ...], controls: str = FRAME) -> list[Claim]:
    return [
        Claim(name, sentence, f"{statement} (accuracy)", exhibit, greater(percent(runs, a), percent(runs, b)),
              f"runs {a}, {b}", controls)
        for name, a, b, statement, exhibit in rows
    ]  # fmt: skip


def _moved(values: Values, by: float) -> Values:
    return {seed: value + by for seed, value in values.items()}


def _level(values: Values, level: float) -> Values:
    return dict.fromkeys(values, level)


def _gap(a: Values, b: Values) -> Values:
    return {seed: a[seed] - b[seed] for seed in a.keys() & b.keys()}


def _exact(good: bool, text: str) -> Finding:
    verdict: Verdict = "holds" if good else "fails"
    return Finding(verdict, f"{text}: {verdict}")


def _accuracy(runs: Runs) -> list[Claim]:
    sentence = "Table 5, Section 4.2.3: slightly better on CIFAR-10, with fewer FLOPS"
    rows = (
        ("C1a", "pick", "base", "the searched net beats the untouched one", "networks"),
        ("C1b", "paper_8", "base", "the paper's ResNet-18-8 beats it", "table_5"),
        ("C1c", "paper_16", "base", "the paper's ResNet-18-16 beats it", "table_5"),
        ("C1g", "pick", "random_same", "our pick beats random vectors with as many replacements (ours)",
         "networks"),
        ("C1h", "pick", "single_cheapest", "it beats the cheapest single replacement (ours)", "networks"),
    )  # fmt: skip
    near = (("C1d", "paper_8", "table_5"), ("C1e", "pick", "networks"), ("C1f", "paper_16", "table_5"))
    equal = [
        Claim(name, sentence, f"{arm}: no more than {MARGIN} points below the untouched net (ours)", exhibit,
              greater(_moved(percent(runs, arm), MARGIN), percent(runs, "base")), f"runs {arm}, base",
              "10,000 test images have a standard error of a quarter point")
        for name, arm, exhibit in near
    ]  # fmt: skip
    return [*_compare(runs, sentence, rows), *equal]


def _counts(runs: Runs) -> list[Claim]:
    del runs
    sentence = "Section 4.2.2: 11 % and 20 % fewer FLOPS"
    value = printed.numbers()["text"]
    found = []
    for name, model in (("C2a", "ResNet-18-8"), ("C2b", "ResNet-18-16")):
        saved, shown = 100 * table_4.savings()[model], float(value[model, "less FLOPS"])
        found.append(
            Claim(name, sentence, f"{model} saves {shown:g} %", "table_4",
                  _exact(round(saved) == shown, f"exactly {saved:.2f} %"), "papers_lib.nar.counting.count",
                  "multiply-accumulates of convolutions and classifier, depthwise and pool with 1×1")
        )  # fmt: skip
    ordinary = [hit for hit in table_4.scan() if hit.convention == table_4.Convention()]
    best = max(hit.parameters + hit.flops for hit in ordinary)
    found.append(
        Claim("C2c", "Table 4: the printed FLOPS", "an ordinary count gives all six printed numbers (ours)",
              "table_4_scan", _exact(best == 6, f"at most {best} of 6 under any reading"),
              "papers_lib.nar.table_4.scan", "see E2")
    )  # fmt: skip
    return found


def _imagenet(runs: Runs) -> list[Claim]:
    gains = [gain for gain in printed.gains(printed.numbers()) if gain.data.startswith("ImageNet")]
    sentence = "Section 4.2: the searched operators transfer to ImageNet"
    base = percent(runs, "imagenet")
    found = []
    for name, arm, model in (("C3a", "imagenet_8", "ResNet-18-8"), ("C3c", "imagenet_16", "ResNet-18-16")):
        text = ", ".join(f"{g.data[9:]} {g.points:+.2f} (z = {g.z:.2f})" for g in gains if g.model == model)
        near = greater(_moved(percent(runs, arm), MARGIN), base)
        found.append(
            Claim(name, sentence, f"{model}: no more than {MARGIN} points below the untouched net (ours)",
                  "table_5", near, f"runs {arm}, imagenet", f"profile paper alone; printed: {text}")
        )  # fmt: skip
    worse = [gain for gain in gains if gain.model == "ResNet-18-16"]
    less = ", ".join(f"{gain.points:+.2f}" for gain in worse)
    return [
        *found,
        Claim("C3b", sentence, "Table 5: ResNet-18-16 is better than ResNet-18 on ImageNet", "table_5",
              _exact(all(g.points > 0 for g in worse), f"printed: {less}"),
              "printed numbers", "one run each: E8"),
    ]  # fmt: skip


def _random(runs: Runs) -> list[Claim]:
    sentence = "Section 3: the controller finds better operators (the paper compares it with nothing)"
    rank, count = named(runs, "enumerate", "pick", "rank"), read(runs, "enumerate", lambda m: m["count"])
    middle = {seed: (count[seed] + 1) / 2 for seed in rank}
    draws = read(runs, "enumerate", lambda m: m["draws"])
    expected = {seed: (count[seed] + 1) / (draws[seed] + 1) for seed in rank}
    ranked = [
        Claim(name, sentence, statement, "ranks", greater(level, rank), "run enumerate",
              "same weights, same images; the weights were trained by the controller's own draws")
        for name, statement, level in (
            ("C4a", "our pick ranks above the middle of all vectors (ours)", middle),
            ("C4b", "and above what the best of random draws at equal cost is expected to (ours)", expected),
        )
    ]  # fmt: skip
    rows = (
        (
            "C4c",
            "pick",
            "best_random",
            "trained alone, it beats the best of random draws at equal cost (ours)",
            "networks",
        ),
        ("C4d", "pick", "random_same", "and random vectors with as many replacements (ours)", "networks"),
        ("C4e", "optimum", "pick", "the best of all by shared score beats the pick (ours)", "networks"),
        ("C4f", "pick", "single", "the pick beats the best of the single replacements (ours)", "networks"),
    )
    return [*ranked, *_compare(runs, sentence, rows)]


def _diversity(runs: Runs) -> list[Claim]:
    sentence = "Section 3.2: without PreTrain, sampling bias leaves less diversity of operations"
    controls = "same epochs of shared weights; without PreTrain the controller has more updates"
    arms = ("search", "search_plain")

    def distinct(name: str) -> Values:
        return {seed: float(len(set(v))) for seed, v in readings.vector(runs, name).items()}

    trained, plain = (readings.diversity(runs, name) for name in arms)
    last, last_plain = (readings.diversity(runs, name, slice(-1, None)) for name in arms)
    pairs = (
        ("C5a", "operators that trained the weights are more diverse, all epochs (bits)", trained, plain),
        ("C5b", "and in the last epoch", last, last_plain),
        ("C5c", "the chosen vector has more distinct operators", distinct(arms[0]), distinct(arms[1])),
    )
    return [
        Claim(name, sentence, f"with PreTrain {statement}", "searches", greater(a, b),
              "runs search, search_plain", controls)
        for name, statement, a, b in pairs
    ]  # fmt: skip


def _pretrain(runs: Runs) -> list[Claim]:
    sentence = "Section 4.1.2: PreTrain replaces more operators, 8 against 5"
    more, fewer = (readings.replaced(runs, name) for name in ("search", "search_plain"))
    alone = ("C6b", "pick", "pick_plain", "trained alone, it beats the pick without (ours)", "networks")
    plain, trained = (named(runs, label, "pick", "rank") for label in ("enumerate_plain", "enumerate"))
    return [
        Claim("C6a", sentence, "the pick has more replacements", "searches", greater(more, fewer),
              "runs search, search_plain", "the paper's 5 and 8 are of faces, one run each"),
        *_compare(runs, sentence, (alone,)),
        Claim("C6c", sentence, "the pick ranks better among all, each by its own weights (ours)", "ranks",
              greater(plain, trained), "runs enumerate, enumerate_plain", "two sets of weights"),
    ]  # fmt: skip


def _tau(runs: Runs, arm: str, reading: str, sample: str = "tau") -> Values:
    return read(runs, arm, lambda m: m[sample][reading])


def _ranking(runs: Runs) -> list[Claim]:
    sentence = "Implied throughout: shared weights rank architectures (never shown)"
    batch, running = (_tau(runs, "tau", name) for name in ("batch", "running"))
    few = _tau(runs, "tau", "batch", "tau_few")
    pairs = (
        ("C7a", "Kendall's τ is above 0", batch, _level(batch, 0)),
        ("C7b", "it is above 0.5 (ours)", batch, _level(batch, 0.5)),
        ("C7c", "the batch's statistics rank better than running ones (ours)", batch, running),
        ("C7d", "recalibrated ones rank better than running ones (ours)", _tau(runs, "tau", "recalibrated"),
         running),
        ("C7e", "weights with PreTrain rank better than without (ours)", batch,
         _tau(runs, "tau_plain", "batch")),
        ("C7f", "τ is above 0 among vectors with one to four replacements (ours)", few, _level(few, 0)),
        ("C7g", "it beats the ranking by cost alone (ours)", batch, _tau(runs, "tau", "macs")),
    )  # fmt: skip
    return [
        Claim(name, sentence, statement, "tau", greater(a, b), "runs tau, tau_plain",
              "half of the vectors are uniform, where cost alone ranks well")
        for name, statement, a, b in pairs
    ]  # fmt: skip


def _depth(runs: Runs) -> list[Claim]:
    sentence = "Section 4.1.2: operators in deeper parts are replaced more often"
    top = read(runs, "enumerate", lambda m: m["top"]["depth"])
    values = (("C8a", "with PreTrain", depths(runs, "pick")), ("C8b", "without", depths(runs, "pick_plain")),
              ("C8c", "the best hundredth of all vectors (ours)", top))  # fmt: skip
    found = [
        Claim(name, sentence, f"mean depth of replaced decisions above ½: {words}", "depth",
              greater(value, _level(value, 0.5)), "runs pick, pick_plain, enumerate", "½ by chance")
        for name, words, value in values
    ]  # fmt: skip
    own = {"ResNet-18-8": printed.mean_depth(PAPER_8), "ResNet-18-16": printed.mean_depth(PAPER_16)}
    text = ", ".join(f"{model} {depth:.2f}" for model, depth in own.items())
    found.append(Claim("C8d", sentence, "Table 4: the paper's own vectors lie deeper than ½", "table_4",
                       _exact(all(depth > 0.5 for depth in own.values()), text),
                       "printed vectors"))  # fmt: skip
    return found


def _deeper_nets(runs: Runs) -> list[Claim]:
    sentence = "Section 4.2.2: works better on large and deep models"
    base = percent(runs, "base")
    a, b = (_gap(percent(runs, name), base) for name in ("pick_16", "pick"))
    gains = {(g.model, g.data): g.points for g in printed.gains(printed.numbers())}
    pairs = [
        (gains["ResNet-18-16", data], gains["ResNet-18-8", data]) for data in ("CIFAR-10", "ImageNet Top-1")
    ]
    text = "printed gains of -16 and -8: " + "; ".join(f"{x:+.2f} and {y:+.2f}" for x, y in pairs)
    return [
        Claim("C9a", sentence, "16 decisions gain more over the untouched net than 8", "networks",
              greater(a, b), "runs pick_16, pick, base", FRAME),
        Claim("C9b", sentence, "Table 5: ResNet-18-16 gains more than ResNet-18-8", "table_5",
              _exact(all(x > y for x, y in pairs), text), "printed numbers", "one run each: E8"),
    ]  # fmt: skip


def _convergence(runs: Runs) -> list[Claim]:
    sentence = "Section 1: refining operators is easy to converge"

    def settled(metrics: dict[str, list[dict[str, object]]]) -> float:
        history = metrics["history"][len(metrics["history"]) // 2 :]
        return sum(entry["argmax"] == history[-1]["argmax"] for entry in history) / len(history)

    share = read(runs, "search", settled)
    return [
        Claim("C10a", sentence, "the controller's entropy falls from the first epoch to the last (bits)",
              "convergence", greater(readings.entropy(runs, "search", 0), readings.entropy(runs, "search")),
              "run search", "PreTrain's epochs leave it as it was drawn"),
        Claim("C10b", sentence, "in the second half its likeliest vector mostly is the last one (ours)",
              "convergence", greater(share, _level(share, 0.5)), "run search",
              "near uniform the likeliest vector changes by chance"),
    ]  # fmt: skip


def _overfitting(runs: Runs) -> list[Claim]:
    sentence = "Title and Section 1: a practical way of avoiding overfitting"

    def gap(name: str) -> Values:
        return _gap(percent(runs, name, "train_accuracy"), percent(runs, name))

    return [
        Claim(name, sentence, statement, "networks", greater(gap(a), gap(b)), f"runs {a}, {b}",
              "training images as they are, last epoch; a net that fits less has a smaller gap")
        for name, a, b, statement in (
            ("C11a", "base", "pick", "train − test is smaller for our pick than for the untouched net"),
            ("C11b", "random_same", "pick", "and than for random vectors with as many replacements (ours)"),
        )
    ]  # fmt: skip


def _kernels(runs: Runs) -> list[Claim]:
    def large(metrics: dict[str, list[dict[str, list[list[float]]]]]) -> float:
        shares = metrics["history"][-1]["shares"]
        return 100 * sum(sum(row[4:]) for row in shares) / len(shares)

    share = read(runs, "search_6", large)
    return [
        Claim("C12", "Section 1: NAS always prefers large kernels",
              "with six candidates, 5×5 are drawn more than a third of the time in the last epoch (%)",
              "operators", greater(share, _level(share, 100 / 3)), "run search_6",
              "two of six candidates are 5×5")
    ]  # fmt: skip


def _skips(runs: Runs) -> list[Claim]:
    sentence = "Figure 1, Section 2: without the constraint the skips become dense"
    first, last = (read(runs, "skips", lambda m, e=epoch: m["history"][e]["kl"]) for epoch in (0, -1))  # type: ignore[misc]
    rate = read(runs, "skips", lambda m: m["history"][-1]["rate"])
    flat, held = (
        read(runs, label, lambda m: m["history"][-1]["kl"]) for label in ("skips_flat", "skips_penalty")
    )
    ceiling = printed.skip_ceiling(1.5)
    sampled = 1 / (1 + np.exp(-3.0))
    controls = "a simulated reward that rises with the skips"
    return [
        Claim("C13a", sentence, "the KL from ½ rises", "figure_1", greater(last, first), "run skips",
              controls),
        Claim("C13b", sentence, "more than half of the skips are drawn at the end", "figure_1",
              greater(rate, _level(rate, 0.5)), "run skips", controls),
        Claim("C13c", sentence, f"the KL ends above nine tenths of the tanh's ceiling {ceiling:.2f} (ours)",
              "figure_1", greater(last, _level(last, 0.9 * ceiling)), "run skips",
              "so its end is no convergence: E14"),
        Claim("C13e", sentence, "the KL ends higher than where skips change nothing (ours)", "figure_1",
              greater(last, flat), "runs skips, skips_flat", "else noise alone makes a controller settle"),
        Claim("C13f", sentence, "it ends higher than under the released penalty (ours)", "figure_1",
              greater(last, held), "runs skips, skips_penalty", "the constraint itself, weight 0.8"),
        Claim("C13d", sentence, "at the ceiling the graph is fully connected", "figure_1",
              _exact(bool(sampled > 0.999), f"a skip is then drawn with probability {sampled:.3f}"),
              "papers_lib.nar.printed.skip_ceiling", "tanh 1.5, as released"),
    ]  # fmt: skip


def _hours(runs: Runs) -> list[Claim]:
    hours = {seed: value / 60 for seed, value in readings.minutes(runs, "search").items()}
    devices = ", ".join(sorted({row.device for row in readings.rows_of(runs, "search").values()}))
    sentence = "Section 1: 10 GPU hours for a ResNet-50 with four candidates"
    return [
        Claim("C14a", sentence, "for a ResNet-50 on faces", "cost",
              Finding("not tested", "the face data is withdrawn: not tested"), "none", "GPU not named: E15"),
        Claim("C14b", sentence, "our search of ResNet-18 takes less than 10 hours (ours)", "cost",
              greater(_level(hours, 10.0), hours), f"run search on {devices or 'nothing yet'}",
              "other network, other data, other device"),
    ]  # fmt: skip


def _space(runs: Runs) -> list[Claim]:
    sentence = "Implied: the search saves FLOPS"
    macs = count_all(8)[:, 1]
    median = 100 * (1 - float(np.median(macs)) / float(macs[0]))
    cheap, near = readings.saving(runs, "pick_cost"), readings.saving(runs, "pick")
    return [
        Claim("C15a", sentence, "our pick saves more than random vectors with as many replacements (ours)",
              "networks", greater(near, readings.saving(runs, "random_same")),
              "runs pick, random_same", FRAME),
        Claim("C15b", sentence, "the space saves it: half of all vectors save more than half (ours)", "space",
              _exact(median > 50, f"the median saves {median:.1f} %"), "papers_lib.nar.counting.count_all",
              "ResNet-18-8 at 224 pixels"),
        Claim("C15c", sentence, "with MACs in the reward the pick saves more (ours)", "networks",
              greater(cheap, near), "runs pick_cost, pick", FRAME),
        Claim("C15d", sentence, f"and is no more than {MARGIN} points worse (ours)", "networks",
              greater(_moved(percent(runs, "pick_cost"), MARGIN), percent(runs, "pick")),
              "runs pick_cost, pick", FRAME),
    ]  # fmt: skip


def _noise(runs: Runs) -> list[Claim]:
    sentence = "Ours: the reward's noise decides the pick"
    se = read(runs, "enumerate", lambda m: 100 * m["reward_noise"]["se"])
    top = read(runs, "enumerate", lambda m: 100 * m["top"]["sd"])
    changed = read(runs, "enumerate", lambda m: 100 * m["reward_noise"]["changed"]["1"])
    return [
        Claim("C16a", sentence, "one reward batch varies more than the best hundredth of vectors (points)",
              "reward_noise", greater(se, top), "run enumerate", "same weights"),
        Claim("C16b", sentence, "on most batches another of the final samples is best (%)", "reward_noise",
              greater(changed, _level(changed, 50)), "run enumerate", "samples may repeat; no ties"),
    ]  # fmt: skip


def _faces(runs: Runs) -> list[Claim]:
    del runs
    gains = [g for g in printed.gains(printed.numbers()) if g.model.startswith("NAR")]
    text = ", ".join(f"{g.data} {g.points:+.2f} (z = {g.z:.1f})" for g in gains)
    low, high = (100 * x for x in table_4.face_savings("A", 24, 8))
    possible = low <= 24 <= high
    return [
        Claim("C17a", "Section 1: better on LFW, CFP-FP and AgeDB-30", "better than LResNet50E-IR", "gains",
              Finding("not tested", f"face data is not shipped; printed: {text}: not tested"),
              "printed numbers", "one run each: E8"),
        Claim("C17b", "Section 1: 24 % fewer FLOPS", "eight whole blocks with 1×1 can save 24 %",
              "face_savings",
              _exact(possible, f"they save {low:.1f} to {high:.1f} %"), "papers_lib.nar.table_4.face_savings",
              "other operators can: E17; the vectors are not in our text"),
    ]  # fmt: skip


def _enumeration(runs: Runs) -> list[Claim]:
    sentence = "Ours: scoring all vectors costs less than one training"
    fewer = read(runs, "enumerate", lambda m: m["naive_block_calls"] / m["block_calls"])
    gaps = read(runs, "enumerate", lambda m: m["max_difference_to_naive"])
    least = min(fewer.values(), default=0.0)
    controls = "same device; below medium a narrow net on few images"
    nothing = Finding("not tested", "not run: not tested")
    return [
        Claim("C18a", sentence, "fewer minutes than training the untouched net", "cost",
              greater(readings.minutes(runs, "base"), readings.minutes(runs, "enumerate")),
              "runs base, enumerate", controls),
        Claim("C18b", sentence, "the tree needs a fifth of the block evaluations, or fewer", "cost",
              _exact(least >= 5, f"{least:.2f} times fewer") if fewer else nothing,
              "run enumerate", "4,096 vectors at smoke"),
        Claim("C18c", sentence, "scores are those of scoring each vector alone", "cost",
              _exact(max(gaps.values()) == 0, f"largest gap {max(gaps.values()):.2g}") if gaps else nothing,
              "run enumerate", "checked on a sample"),
    ]  # fmt: skip


def _enas(runs: Runs) -> list[Claim]:
    del runs
    text = (
        "others: Li and Talwalkar (arXiv:1902.07638) and Sciuto et al. (arXiv:1902.08142) find no advantage "
        "over random search, Bender et al. (arXiv:2008.06120) one in larger spaces: not tested"
    )
    return [Claim("C19", "Assumed: ENAS itself beats random search", "in ENAS's own space", "none",
                  Finding("not tested", text), "other papers")]  # fmt: skip
