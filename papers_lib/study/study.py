"""A paper's study: arms × seeds × profiles. A wing subclasses `Study` with what is its own.

From the wing's tables (`papers_lib.study.data`) the base makes the plan, looks the data up, refuses unknown
names, judges the claims, reads the errata, counts the coverage, and gives every exhibit its provenance.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from pydantic import ValidationError

from papers_lib.datasets import features, folder, known, weights
from papers_lib.errors import PapersError
from papers_lib.exhibits import cost, published
from papers_lib.exhibits import provenance as origin
from papers_lib.exhibits.claims import Claim, Erratum, forest
from papers_lib.exhibits.coverage import Cell
from papers_lib.exhibits.figure import Figure
from papers_lib.exhibits.provenance import Provenance
from papers_lib.exhibits.table import Cell as TableCell
from papers_lib.exhibits.table import Line, Table
from papers_lib.files import resolve
from papers_lib.runs import progress
from papers_lib.runs.planning import refuse_twice, refuse_unknown, sha256
from papers_lib.runs.spec import Data, RunSpec
from papers_lib.settings import Frozen, NotebookSettings, data_root
from papers_lib.study.claims import Test, judge
from papers_lib.study.data import Arm, Size, read_arms, read_misprints, read_sizes, read_statements
from papers_lib.study.results import Results, Values, difference, mean

if TYPE_CHECKING:
    from pandas import DataFrame, Series

Check = Callable[["Series"], tuple[str, bool]]  # of the printed numbers by exhibit, row and column
Place = tuple[str, str, str]  # exhibit, row and column of a printed number


class Answer(NamedTuple):
    """Which runs answer a printed number: their label, the metric, and the label to be subtracted.

    With `quoted` the number is another paper's, or a setting: no run of ours can stand beside it.
    """

    label: str = ""
    metric: str = ""
    minus: str = ""
    quoted: bool = False


QUOTED = Answer(quoted=True)


class _Lacking(PapersError):
    """A data set that is not there, or that is not whole."""


class Study:
    """What a notebook and the command line ask of a paper. A wing overrides what its docstring names."""

    name: str  # of the paper, and of its wing
    parameters: type[NotebookSettings] = NotebookSettings  # of the notebook
    datasets: Collection[str] = ()  # names that `dataset` may have; empty: any
    dataset: str = ""  # the paper's own data set; empty: any that is not drawn is comparable
    read_folder: ClassVar[Callable[[Path], Any]] = folder.load  # as the wing reads one's own images
    exact: ClassVar[Mapping[Place, float]] = {}  # printed cells that need no run
    tests: ClassVar[Mapping[str, Test]] = {}  # of claims that are not "A beats B in M"
    unpiloted: ClassVar[Collection[str]] = ()  # kinds of run without epochs or steps
    checks: ClassVar[Mapping[str, Check]] = {}  # of errata: what shows it, and whether it does

    def __init__(self) -> None:
        self.folder = Path(inspect.getfile(type(self))).parent
        self.arms: dict[str, Arm] = read_arms(self.folder / "arms.csv")
        self.sizes: dict[str, Size] = read_sizes(self.folder / "profiles.toml")

    # -- the plan --

    def plan(self, settings: Any) -> list[RunSpec]:
        """All runs that the tables and figures need, the most telling first: sweep by sweep, seed by seed.

        Raises:
            PapersError: an unknown name, one that stands twice, data that is there but wrong or, with
                `settings.train`, not there; then it names the sweeps that do without.
        """
        self.refuse(settings)
        wanted = settings.sweeps or self.sweeps
        try:
            return [spec for sweep in wanted for spec in self.sweep(settings, sweep)]
        except _Lacking as error:
            there = [sweep for sweep in wanted if self._has_data(settings, sweep)]
            mend = f"; or leave out what needs it: -p sweeps {','.join(there)}" if there else ""
            raise PapersError(f"{error}{mend}") from None

    def sweep(self, settings: Any, sweep: str) -> list[RunSpec]:
        """The runs of a sweep; a wing may have sweeps that are not of its arms."""
        # seed by seed: a sweep that is stopped early leaves whole comparisons, not half of the arms
        return [
            spec
            for seed in settings.seeds or self.sizes[settings.profile].seeds
            for arm in self.chosen(settings)
            if arm.sweep == sweep
            for spec in self.checked_specs(settings, arm, seed)
        ]

    def _has_data(self, settings: Any, sweep: str) -> bool:
        """Whether a sweep has runs, and the data of all of them is there."""
        try:
            return bool(self.sweep(settings, sweep))
        except PapersError:
            return False

    def pilots(self, settings: Any) -> list[RunSpec]:
        """The heaviest run of each kind of the plan whose data is there, as a pilot; errors as `plan`."""
        there = [spec for spec in self.plan(settings) if all(data.root for data in spec.all_data)]
        if not there:  # refuse, and say what lacks
            there = self.plan(settings.model_copy(update={"pilot": False, "train": True}))
        return cost.heaviest_of_each([s for s in there if s.settings.get("kind") not in self.unpiloted])

    def checked_specs(self, settings: Any, arm: Arm, seed: int) -> list[RunSpec]:
        """The runs of an arm at a seed.

        Raises:
            PapersError: the tables give a setting that a run does not have, or a value that it cannot take.
        """
        try:
            return list(self.specs(settings, arm, seed))
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(map(str, first["loc"]))
            place = f"{self.folder}: arm '{arm.name}' at profile {settings.profile}"
            raise PapersError(f"{place}: the setting '{name}': {first['msg']}; mend the table") from None

    def specs(self, settings: Any, arm: Arm, seed: int) -> Iterable[RunSpec]:
        """The wing's: the runs of an arm at a seed, none where the profile cannot have it."""
        raise NotImplementedError

    def refuse(self, settings: Any) -> None:
        """Refuse unknown names in the parameters that all notebooks share; a wing adds its own.

        Raises:
            PapersError: names the parameter and what is known.
        """
        refuse_unknown("profile", (settings.profile,), self.sizes)
        refuse_twice("seeds", settings.seeds)
        refuse_unknown("sweeps", settings.sweeps, self.sweeps)
        refuse_unknown("arms", settings.arms, self.arms)
        # an empty parameter is the profile's: known already
        if settings.dataset and self.datasets:
            refuse_unknown("dataset", (settings.dataset,), self.datasets)
        if settings.dataset == folder.NAME and self.sizes[settings.profile].dataset in features.NAMES:
            pictures = [name for name, size in self.sizes.items() if size.dataset not in features.NAMES]
            raise PapersError(
                f"profile {settings.profile} is of features that ship with the library, and learns from no "
                f"picture; take another for images of your own: {', '.join(pictures)}"
            )

    @property
    def sweeps(self) -> tuple[str, ...]:
        """The sweeps of the arms, in the order of the table."""
        # each once, as it first stands
        return tuple(dict.fromkeys(arm.sweep for arm in self.arms.values()))

    def chosen(self, settings: Any) -> list[Arm]:
        """The arms that are asked for."""
        return [arm for arm in self.arms.values() if not settings.arms or arm.name in settings.arms]

    def find_data(self, settings: Any, name: str = "", stand_in: str | None = None) -> Data:
        """A data set as it lies on disk; by its name alone where it is not there.

        Stand-ins lie apart, in the folder that the profile names, so that none is taken for the real set of
        the same name; `data_root`, where given, is taken as it is. `stand_in` overrides the profile's.
        """
        size = self.sizes[settings.profile]
        name = name or settings.dataset or size.dataset
        drawn = size.stand_in if stand_in is None else stand_in
        place = "" if name == folder.NAME else drawn  # one's own images are never drawn
        # a folder that is given holds the profile's kind of data, drawn or real, and not the other kind
        given = bool(settings.data_root) and bool(place) == bool(size.stand_in)
        where = settings.data_root
        if place and settings.dataset == folder.NAME:
            given, where = False, ""  # beside one's own images nothing drawn is looked for
        root = data_root(where) / ("" if given else place)
        if name in features.NAMES and not (given and (root / name).exists()):
            root, given = features.SHIPPED, False  # they come with the library
        # a parameter of the wings that use withdrawn data alone
        acknowledged = getattr(settings, "acknowledge_withdrawn", False)
        # where runs are to train, or a folder was given, a lack of data is an error
        needed = settings.train or (given and not settings.pilot)
        # a folder that the wing cannot use is refused here, and not by each run
        own = type(self).read_folder if name == folder.NAME else None
        return _data(root, name, bool(place), needed, acknowledged, own)

    def own(self, data: Data) -> Any:
        """One's own images as the wing reads them; None of other data, and where they are not there."""
        # what the profile asks is fitted to these: no data set of a paper has so few
        return (
            _own(type(self).read_folder, Path(data.root)) if data.name == folder.NAME and data.root else None
        )

    def run_spec(
        self,
        settings: Any,
        label: str,
        values: dict[str, Any],
        data: Data,
        needs: tuple[RunSpec, ...] = (),
        function: str = "",
    ) -> RunSpec:
        """The run of complete settings `values`; `function` is by default the wing's `study:run`."""
        # settings say the weights' digest, `places` where they lie: a moved file is the same run
        places = {}
        package = weights.PACKAGED.get(values.get("backbone", ""))
        if values.get("start") == "file":
            places["weights"] = str(resolve(settings.weights))
        elif values.get("start") == "imagenet" and package:
            values = values | {"weights": package.sha256}
            places["weights"] = str(weights.path(data_root(settings.data_root), package.name))
        return RunSpec(
            paper=self.name,
            function=function or f"{type(self).__module__}:run",
            profile=settings.profile,
            settings=values,
            data=data,
            needs=needs,
            label=label,
            device=settings.device,
            places=places,
        )

    # -- what the runs say --

    def tables(self, results: Results) -> dict[str, Table]:
        """The wing's: every table by name."""
        raise NotImplementedError

    def figures(self, results: Results) -> dict[str, Figure]:
        """The wing's: every figure by name."""
        raise NotImplementedError

    def read(self, results: Results, label: str, metric: str) -> Values:
        """A metric of an arm by seed, as `claims.csv` names it; a wing adds readings of its own."""
        return results.values(label, metric)

    def resolve(self, results: Results, arm: str) -> str:
        """The label of an arm that `claims.csv` names; a wing may choose one by its results."""
        del results
        return arm

    def claims(self, results: Results) -> list[Claim]:
        """Every claim of the paper with the verdict of our runs."""
        return judge(self, results, read_statements(self.folder / "claims.csv"))

    def forest(self, results: Results) -> Figure:
        """The figure `claims` of every paper: each claim that a test on runs judged, with its interval."""
        made = self.provenance(results)
        # in fewer colours, so that a chapter has room for many claims
        return replace(forest(self.claims(results), made.badge, made.text), colours=16)

    def errata(self) -> list[Erratum]:
        """What is wrong or missing in the paper, shown by code where it can be."""
        value, errata = published.by_place(self.published), []
        for line in read_misprints(self.folder / "errata.csv"):
            computed = line.name in self.checks  # else a reader is told where to look
            shown_by, holds = self.checks[line.name](value) if computed else (line.shown_by, True)
            errata.append(
                Erratum(line.name, line.where, line.printed, line.right, shown_by, computed, bool(holds))
            )
        return errata

    def provenance(self, results: Results) -> Provenance:
        """Footer and badge of everything made from `results`."""
        rows = results.all_rows
        if self.dataset:
            return origin.provenance(rows, results.profile, self.dataset)
        # no data set is the paper's own: a row compares where it is real and at profile "paper"
        of_rows = origin.provenance(rows, results.profile)
        same = bool(rows) and all(origin.comparable([row], row.data.name) for row in rows)
        # without a data set of the paper the badge would say "not the paper's"
        return Provenance(of_rows.text, "" if same else of_rows.badge, same)

    def table(
        self,
        results: Results,
        name: str,
        title: str,
        columns: Sequence[str],
        rows: Sequence[Sequence[TableCell]],
        notes: Sequence[str] = (),
        decimals: int | dict[str, int] = 2,
    ) -> Table:
        """A table of ours, with the badge and the footer of `results`."""
        made = self.provenance(results)  # said once, of all that is made from these results
        return Table(name, title, list(columns), list(rows), made.badge, made.text, tuple(notes), decimals)

    def figure(
        self,
        results: Results,
        name: str,
        title: str,
        alt: str,
        data: DataFrame,
        draw: Callable[[Any, DataFrame], object],
        size: tuple[float, float],
    ) -> Figure:
        """A figure of ours, with the badge and the footer of `results`."""
        made = self.provenance(results)
        return Figure(name, title, alt, data, draw, made.badge, made.text, size)

    # -- printed numbers --

    @cached_property
    def published(self) -> DataFrame:
        """The printed numbers, as `papers_lib.exhibits.published.load` gives them."""
        return published.load_folder(self.folder / "published")

    @cached_property
    def printed(self) -> dict[Place, str]:
        """Every printed number by its place, with its digits as printed."""
        frame = self.published
        # text and not float: "61.0" and "61" claim different things
        places = zip(frame["exhibit"], frame["row"], frame["column"], strict=True)
        return dict(zip(places, frame["printed"], strict=True))

    def answer(self, results: Results, place: Place) -> Answer | None:
        """The wing's: which runs answer a printed number; None where it is ours to make and none does."""
        raise NotImplementedError

    def answers(self, results: Results, answer: Answer | None) -> Values:
        """The values by seed that stand beside a printed number."""
        if answer is None or answer.quoted:
            return {}
        values = results.values(answer.label, answer.metric)
        # a printed gain: x_s − y_s, seed by seed
        return difference(values, results.values(answer.minus, answer.metric)) if answer.minus else values

    def line(self, results: Results, labels: tuple[str, ...], place: Place, comparable: bool) -> Line:
        """A printed number beside ours."""
        answer = self.answer(results, place)
        values = self.answers(results, answer)  # {seed: ours}, in the paper's unit
        return Line(labels, self.printed[place], values, comparable, answer is not None and answer.quoted)

    def cells(self, results: Results) -> list[Cell]:
        """For `coverage`: our number for each printed one; quoted works and settings are not ours to make."""
        return [self._cell(results, place) for place in self.printed]

    def _cell(self, results: Results, place: Place) -> Cell:
        if place in self.exact:
            return Cell(*place, self.exact[place], kind="exact")
        answer = self.answer(results, place)
        if answer is not None and answer.quoted:
            return Cell(*place, None, kind="quoted")
        value = mean(self.answers(results, answer))  # None: missing
        data = results.data_names(answer.label) if answer else ""
        return Cell(*place, value, results.profile, data)


def weights_of(settings: Any) -> dict[str, str]:
    """What the parameter `weights` changes in a run: it starts from that file, known by its content."""
    return {"start": "file", "weights": sha256(resolve(settings.weights))} if settings.weights else {}


def run_training(
    spec: RunSpec, settings: type[Frozen], train: Callable[..., dict[str, Any]]
) -> dict[str, Any]:
    """Call a wing's `train` for `spec`, in the folder that the store gave it; returns its metrics."""
    folder = Path(spec.folder)
    return train(
        settings.model_validate(spec.settings),
        (spec.data.root, spec.data.name),
        folder,
        device=spec.device,
        weights=start_weights(spec),
        report=progress.reporter(folder),
    )


def start_weights(spec: RunSpec) -> Path | None:
    """The weights that a run starts from: a file's, or what the run that it needs has left.

    Raises:
        PapersError: that run's are missing or damaged.
    """
    from papers_lib.runs.store import needed_weights

    if "weights" in spec.places:
        path = Path(spec.places["weights"])
        package = weights.PACKAGED.get(spec.settings.get("backbone", ""))
        if package and not path.is_file():
            raise PapersError(f"no weights at {path}; {package.how}")
        return path
    return needed_weights(spec) if spec.needs else None  # None: from scratch, or ImageNet's


@lru_cache(maxsize=32)  # the runs of a plan share data sets, and a survey reads a whole folder
def _data(
    root: Path,
    name: str,
    stand_in: bool,
    needed: bool,
    acknowledged: bool,
    own: Callable[[Path], Any] | None = None,
) -> Data:
    # a plan is made, and read from the ledger, on machines without data
    if not needed and not (root / name).exists():
        return Data(name=name, stand_in=stand_in)
    try:
        survey = _own(own, root) if own else known.load(root, name, acknowledged)
    except PapersError as error:
        raise _Lacking(str(error)) from None
    return Data(
        name=name,
        root=str(root),
        fingerprint=survey.fingerprint,
        pixels=survey.pixels,
        stand_in=survey.stand_in,
    )


@lru_cache(maxsize=4)
def _own(read: Callable[[Path], Any], root: Path) -> Any:
    return read(root)
