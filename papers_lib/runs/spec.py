"""What a run is, and the two hashes that name it.

`identity` says what was asked: function, settings (defaults and seed included), data, and the runs
that it starts from. `key` adds the fingerprint of the code that computes it. Device, slots, places
and labels are provenance and in neither.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import Field

from papers_lib.datasets import known
from papers_lib.runs.fingerprint import code_fingerprint
from papers_lib.settings import Frozen


class Data(Frozen):
    """A data set as a run sees it: its name, where it lies, and what is in it.

    A stand-in's `fingerprint` is of its recipe; `pixels`, of what was drawn on this machine, is provenance.
    """

    name: str
    root: str = ""
    fingerprint: str = ""
    pixels: str = ""
    stand_in: bool = False


class RunSpec(Frozen):
    """One run of one function. `settings` is plain JSON and complete: no default is left out."""

    paper: str = Field(pattern=r"^\w+$")  # a folder of the store
    function: str  # "package.module:function", resolved by name in the worker
    profile: str
    settings: dict[str, Any]
    data: Data
    needs: tuple[RunSpec, ...] = ()
    pilot: bool = False  # two epochs of a few steps: what it would cost, and no evidence
    label: str = ""
    device: str = "auto"
    places: dict[str, str] = Field(
        default_factory=dict
    )  # files that the settings name by their content: name -> path
    folder: str = ""  # set by the store when the run starts

    @property
    def seed(self) -> int:
        """The seed, which is one of the settings."""
        return int(self.settings["seed"])

    def asked(self, fingerprint: bool = True) -> dict[str, Any]:
        """What can change the result, code apart; `fingerprint=False` leaves the data's hash out."""
        return {
            "function": self.function,
            "settings": self.settings,
            "data": [self.data.name, self.data.stand_in] + ([self.data.fingerprint] if fingerprint else []),
            "needs": [need.asked(fingerprint) for need in self.needs],
        } | ({"pilot": True} if self.pilot else {})

    @property
    def all_data(self) -> list[Data]:
        """Its data, and that of the runs that it needs."""
        return [self.data, *(data for need in self.needs for data in need.all_data)]

    def as_pilot(self) -> RunSpec:
        """The pilot of this run, and of those that it needs."""
        needs = tuple(need.as_pilot() for need in self.needs)
        return self.model_copy(update={"pilot": True, "needs": needs})

    @property
    def identity(self) -> str:
        """SHA-256 of what was asked, by the data's name: how the ledger finds a row."""
        return digest(self.asked(fingerprint=False))

    @property
    def key(self) -> str:
        """SHA-256 of what was asked, the data's fingerprint and the code's: the run's folder."""
        return digest([self.asked(), self.code])

    @property
    def code(self) -> str:
        """Fingerprint of the code behind `function`: what its package's `training` module imports.

        Readers of data sets that it does not use are left out.
        """
        return code_fingerprint(self.module, self.unread)

    @property
    def unread(self) -> frozenset[str]:
        """The readers, as modules, of data sets that this run does not use."""
        return known.not_read(data.name for data in self.all_data)

    @property
    def module(self) -> str:
        """The module whose imports decide the result: `training` beside the one of `function`."""
        return f"{self.package}.training"

    @property
    def package(self) -> str:
        """The package of the wing."""
        return self.function.partition(":")[0].rpartition(".")[0]


def digest(value: Any) -> str:
    """SHA-256 of plain JSON, whatever the order of its names."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
