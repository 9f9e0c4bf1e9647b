"""Where the numbers of an exhibit come from, in one line, and the badge that says what they are worth."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from papers_lib.errors import PapersError
from papers_lib.exhibits.ledger import Row

OWN = "folder"  # images of one's own, which no paper has
NAMED = 3  # so many commits are named in a footer
# Copies that are not the published files, by fingerprint: accuracies on them are not exactly comparable.
COPIES = {"1fd48a2394d1c99902f31d4d5926df04e396e263541f3d7c2168f443348c9e76": "JPEG copy"}


@dataclass(frozen=True)
class Provenance:
    """The footer of an exhibit, its badge, and whether it may be compared with the paper."""

    text: str
    badge: str
    comparable: bool

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


def provenance(rows: Sequence[Row], profile: str = "", dataset: str = "") -> Provenance:
    """Footer and badge of an exhibit made from `rows`.

    `profile` is the one asked for, by default that of the rows; `dataset` is the name of the paper's own
    data set, without which nothing is comparable.

    Raises:
        PapersError: rows of several profiles, or of another one than `profile`.
    """
    # without rows the profile that was asked for still has its name
    profiles = sorted({row.profile for row in rows} | ({profile} if profile else set()))
    if len(profiles) > 1:
        raise PapersError(
            f"one exhibit got profiles {', '.join(profiles)}; they are never mixed, filter the rows"
        )
    if not rows:
        return Provenance(
            " · ".join([*(f"profile {name}" for name in profiles), "no runs yet"]), "not run", False
        )
    same = comparable(rows, dataset)  # the badge is empty only where it is
    return Provenance(" · ".join(_facts(rows, profiles[0])), _badge(rows, profiles[0], same), same)


def comparable(rows: Collection[Row], dataset: str) -> bool:
    """Whether a difference to the paper means something: its data set, its profile, nothing else."""
    # one row of another kind spoils the exhibit
    return bool(rows) and all(
        row.profile == "paper" and row.data.name == dataset != OWN and not row.data.stand_in for row in rows
    )


def data_name(row: Row) -> str:
    """The data set as a result names it: with "(stand-in)", or with what kind of copy it is."""
    # a drawn set is never a copy of the real one
    kind = "stand-in" if row.data.stand_in else COPIES.get(row.data.fingerprint, "")
    return f"{row.data.name} ({kind})" if kind else row.data.name


def data_names(rows: Iterable[Row]) -> str:
    """The data sets of some rows, each once."""
    return ", ".join(_distinct(data_name(row) for row in rows))


def _badge(rows: Sequence[Row], profile: str, same: bool) -> str:
    # the gravest reason alone: a badge is read at a glance
    if profile == "smoke":
        return "SMOKE: stand-in data, numbers mean nothing"
    if any(row.data.stand_in for row in rows):
        return "stand-in data"
    if profile != "paper":
        return f"profile {profile}, not the paper's setting: not comparable"
    return "" if same else "not the paper's data set: not comparable"


def _facts(rows: Sequence[Row], profile: str) -> list[str]:
    # "none": made outside a repository
    commits = _distinct((row.commit[:7] or "none") + "+dirty" * row.dirty for row in rows)
    codes = _distinct(row.code[:7] for row in rows)
    seeds = _distinct(row.seed for row in rows)
    precisions = _distinct(row.settings["precision"] for row in rows if "precision" in row.settings)
    more = [f"{len(commits) - NAMED} more"] if len(commits) > NAMED else []
    return [
        f"profile {profile}",
        f"data {data_names(rows)}",
        f"{len(rows)} {'run' if len(rows) == 1 else 'runs'}",
        f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}",
        f"commit {', '.join(commits[:NAMED] + more)}",
        # mixed: some rows are of an older code, `why` says which
        f"code {codes[0] if len(codes) == 1 else 'mixed'}",
        f"torch {', '.join(_distinct(row.torch for row in rows))}",
        *([", ".join(precisions)] if precisions else []),
        # of a processor, its maker is in the row alone: a chapter is the same whoever executes it
        f"device {', '.join(_distinct(row.device.partition(' (')[0] for row in rows))}",
        f"{_duration(sum(row.seconds for row in rows))} of computing",
    ]


def _distinct(values: Iterable[Any]) -> list[Any]:
    return sorted(set(values))  # the same text in whatever order the rows came


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)  # 65 min and 4 s → 1 h 5 min
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes else f"{rest} s"
