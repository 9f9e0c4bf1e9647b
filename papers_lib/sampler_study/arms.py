"""The runs of the study by name: the 22 settings of Tables I–IV, their rivals, and the controls.

A name of the grid is `<sampler>_<K or N>`; a control's name says what it changes. Which arms are run on which
camera networks is said here too: the grid and the rivals on all three, the controls on the first.
"""

from __future__ import annotations

from typing import Any, NamedTuple

GRID_VALUES = (1, 2, 4, 8, 12, 16, 32)
SAMPLERS = {
    "triplet_cluster": ("Triplet, cluster labels", "K", "Table II"),
    "triplet_proxy": ("Triplet, proxy labels", "K", "Table III"),
    "group_cluster": ("Group", "N", "Table IV"),
}
SMALL_BATCH = 32  # the paper's batch size


class Arm(NamedTuple):
    """A run: its name, what readers see, how it differs from the preset, the sweep that it is of, and the
    arm that it is held against."""

    name: str
    label: str
    changes: dict[str, Any]
    sweep: str = "grid"
    against: str = ""


def arm_name(method: str, k: int) -> str:
    """The name of a setting of the grid."""
    return f"{method}_{k}"


def _grid() -> list[Arm]:
    random = Arm("random", "Random", {"method": "random"})
    return [random] + [
        Arm(arm_name(method, k), f"{label}, {symbol} = {k}", {"method": method, "k": k})
        for method, (label, symbol, _) in SAMPLERS.items()
        for k in GRID_VALUES
    ]


# Twice the images, at the rate of the warm-up: an upper bound should not be short of training.
UPPER = {"method": "supervised", "batch_size": 64, "lr": 2e-3, "iterations_times": 2}
RIVALS = (
    Arm("start", "The start alone (no training)", {"method": "none"}, "rivals"),
    Arm("cap", "CAP", {"tau": 0.07, "iters_per_epoch": 0, "repeat": "cap"}, "rivals"),
    Arm("spcl", "SpCL", {"method": "spcl", "tau": 0.05}, "rivals"),
    Arm("mmcl", "MMCL without CamStyle images", {"method": "mmcl"}, "rivals"),
    Arm("supervised", "Identity labels (upper bound)", UPPER, "rivals"),
    Arm("untrained", "Random weights (no training)", {"method": "none", "start": "scratch"}, "rivals"),
)


def _fixed_p() -> list[Arm]:
    """K at P = 4 classes a batch, at equal steps and at equal samples; K = 8 is in the grid."""
    arms = []
    for method in ("triplet_cluster", "triplet_proxy"):
        for k in (2, 4, 16, 32):
            batch = 4 * k
            changes = {"method": method, "k": k, "p": 4, "batch_size": batch}
            label = f"{SAMPLERS[method][0]}, K = {k} at P = 4"
            arms.append(
                Arm(
                    f"{method}_{k}_p4_steps", f"{label}, equal steps", changes, "fixed_p", arm_name(method, k)
                )
            )
            scale = {"samples_of_batch": SMALL_BATCH}
            arms.append(
                Arm(f"{method}_{k}_p4_samples", f"{label}, equal samples", changes | scale, "fixed_p",
                    arm_name(method, k))
            )  # fmt: skip
    return arms


def _frozen() -> list[Arm]:
    grid = {arm.name: arm for arm in _grid()}
    names = (
        "triplet_cluster_32", "triplet_proxy_32", "triplet_proxy_4", "triplet_cluster_4",
        "triplet_proxy_16", "triplet_cluster_16", "random",
    )  # fmt: skip
    frozen = [
        Arm(f"{name}_frozen", f"{grid[name].label}, all BN frozen", grid[name].changes | {"freeze_bn": "all"},
            "batch_norm", name)
        for name in names
    ]  # fmt: skip
    for name in ("triplet_cluster_32", "triplet_proxy_32"):
        label, changes = grid[name].label, grid[name].changes
        frozen += [
            Arm(f"{name}_head", f"{label}, head BN frozen", changes | {"freeze_bn": "head"},
                "batch_norm", name),
            Arm(f"{name}_eval", f"{label}, memory from eval mode", changes | {"memory_write": "eval"},
                "batch_norm", name),
        ]  # fmt: skip
    return frozen


def _loss() -> list[Arm]:
    proxy, cluster = {"method": "triplet_proxy"}, {"method": "triplet_cluster"}
    eq1 = {"intra_loss": False, "inter_weight": 1.0, "inter_start_epoch": 0}
    four, group = "triplet_proxy_4", "group_cluster_8"
    rows: list[tuple[str, str, dict[str, Any], str]] = [
        ("eq1_1", "Eq. 1 alone, proxy labels, K = 1", proxy | eq1 | {"k": 1}, "triplet_proxy_1"),
        ("eq1_4", "Eq. 1 alone, proxy labels, K = 4", proxy | eq1, four),
        ("eq1_8", "Eq. 1 alone, proxy labels, K = 8", proxy | eq1 | {"k": 8}, "triplet_proxy_8"),
        ("all_negatives", "All negatives, proxy labels, K = 4", proxy | {"num_hard_negatives": 0}, four),
        ("drawn_memory", "Memory of drawn images, proxy labels, K = 4",
         proxy | {"memory_rebuild": "drawn"}, four),
        ("repeat_cap", "CAP's repeats, proxy labels, K = 8",
         proxy | {"k": 8, "repeat": "cap"}, "triplet_proxy_8"),
        ("tau_07", "tau = 0.07, proxy labels, K = 4", proxy | {"tau": 0.07}, four),
        ("one_pass", "inliers / 32 iterations, proxy labels, K = 4", proxy | {"iters_per_epoch": 0}, four),
        ("group_proxy_8", "Group of a proxy, N = 8", {"method": "group_proxy", "k": 8}, group),
        ("no_cameras", "Group, N = 8, Eq. 1, cameras ignored",
         {"method": "group_cluster", "k": 8, "camera_aware": False} | eq1, "eq1_group"),
        ("eq1_group", "Group, N = 8, Eq. 1", {"method": "group_cluster", "k": 8} | eq1, group),
        ("other_cameras", "Triplet, cluster labels, K = 4, other cameras preferred",
         cluster | {"prefer_other_cameras": True}, "triplet_cluster_4"),
        ("visit_all", "Triplet, cluster labels, K = 32, twice the iterations",
         cluster | {"k": 32, "iterations_times": 2}, "triplet_cluster_32"),
        ("scratch", "Triplet, proxy labels, K = 4, random weights", proxy | {"start": "scratch"}, four),
    ]  # fmt: skip
    return [Arm(name, label, changes, "loss", against) for name, label, changes, against in rows]


def _again(suffix: str, words: str, changes: dict[str, Any], sweep: str) -> list[Arm]:
    """The ends and the middle of the grid once more, with one thing changed."""
    names = ["random", *(arm_name(m, k) for m in SAMPLERS for k in (1, 4, 8, 16, 32))]
    grid = {arm.name: arm for arm in _grid()}
    return [
        Arm(f"{name}{suffix}", f"{grid[name].label}, {words}", grid[name].changes | changes, sweep, name)
        for name in names
    ]


MANY_VALUES = (1, 8, 32, 64, 128, 256, 1024)
MANY = tuple(
    Arm(f"many_{n}", f"Group, N = {n}", {"method": "group_cluster", "k": n}, "many", "many_1")
    for n in MANY_VALUES
)
GRID = tuple(_grid())
CONTROLS = (
    *_fixed_p(),
    *_frozen(),
    *_loss(),
    *_again("_eps6", "eps = 0.6", {"eps": 0.6}, "eps"),
    *_again("_long", "24 epochs' worth", {"epochs_times": 2.4}, "long"),
)
ARMS = {arm.name: arm for arm in (*GRID, *RIVALS, *CONTROLS, *MANY)}
SWEEPS = tuple(dict.fromkeys(arm.sweep for arm in ARMS.values()))
NOISY = ("random", "group_cluster_1")  # the same distribution: their spread needs more seeds
