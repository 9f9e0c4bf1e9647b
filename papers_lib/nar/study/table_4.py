"""Table 4: which architectures it means, their exact counts, and which ways to count give its digits.

All three printed vectors are one entry short: 7, 7 and 15 for 8, 8 and 16 decisions. Nothing is trained here:
a reading is judged by parameters and operations alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import product
from typing import Literal, NamedTuple

from papers_lib.errors import PapersError
from papers_lib.exhibits import published
from papers_lib.exhibits.table import Cell, Table
from papers_lib.nar.counting import Count, Site, after, costs, count, operator_cost, resnet18_sites
from papers_lib.nar.operators import RULES, Rule
from papers_lib.nar.study import exhibits
from papers_lib.nar.study.printed import PAPER, numbers

MODELS = {"ResNet-18": 8, "ResNet-18-8": 8, "ResNet-18-16": 16}  # decisions
PARAMETERS, FLOPS = "Parameter Number", "FLOPS"
UNITS = {PARAMETERS: 1e7, FLOPS: 1e9}  # two decimals of these are printed
# Where the missing zero goes: what parameters and operations leave open, the first being the default.
PLACEMENTS = {
    "ResNet-18": ((0,) * 8,),
    "ResNet-18-8": ((1, *(0,) * 7), (0, 1, *(0,) * 6)),
    "ResNet-18-16": (
        (1, 0, 0, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 2),
        (1, 0, 0, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 2, 0),
    ),
}
Kind = Literal["A", "B", "enas"]  # 1×1 after; none; 1×1 before (and after a depthwise convolution)
SIDES = {  # of the stem's and the first stage's map, at 224 pixels
    "padded": (112, 56),
    "3×3 pool unpadded": (112, 55),
    "stem unpadded": (109, 55),
    "both unpadded": (109, 54),
}
GIGA = {"10⁹": 1.0, "1024 · 10⁶": 1.024, "1024² · 10³": 1.048576, "1024³": 1.073741824}
FIXED_PARAMETERS = 9_408 + 513_000 + 172_032 + 9_600  # stem, classifier, shortcuts, batch normalisation
PER_ELEMENT = (0, 1, 2, 4)  # operations an element of batch normalisation


class Convention(NamedTuple):
    """How operations are counted; the ordinary way is the default."""

    sides: str = "padded"
    shortcuts: bool = True
    classifier: bool = True
    per_element: int = 0
    giga: str = "10⁹"


ORDINARY = Convention()


class Reading(NamedTuple):
    """What the operators stand for: depthwise where channels stay and where they change, and pools."""

    same: Kind
    change: Kind
    pool: Kind


class Hit(NamedTuple):
    """A point of the scan: reading, vector of ResNet-18-16, convention, and the printed numbers it gives."""

    reading: Reading
    vector: tuple[int, ...]
    convention: Convention
    parameters: int
    flops: int

    @property
    def right(self) -> int:
        """Of the six printed numbers, those that it gives."""
        return self.parameters + self.flops


def as_printed(model: str) -> tuple[int, ...]:
    """The vector as Table 4 prints it."""
    cells = numbers()["Table 4"][model]
    return tuple(int(x) for name, x in cells.items() if str(name).startswith("Architecture"))


def insertions(vector: Sequence[int]) -> list[tuple[int, ...]]:
    """All vectors that one more zero can make, without doubles."""
    longer = [(*vector[:i], 0, *vector[i:]) for i in range(len(vector) + 1)]
    return list(dict.fromkeys(longer))


def exact_places() -> dict[tuple[str, str, str], float]:
    """Printed cells that need no run: Table 4's counts, and the savings in the text, in %."""
    cells = {("Table 4", *place): float(number) for place, number in exact_cells().items()}
    saved = {("text", model, "less FLOPS"): 100 * share for model, share in savings().items() if share}
    return cells | saved


def exact_cells(rule: Rule = "A") -> dict[tuple[str, str], int]:
    """Row and column of Table 4 -> our exact number, by the default placements."""
    counts = {model: count(vectors[0], rule=rule) for model, vectors in PLACEMENTS.items()}
    return {
        (model, column): number
        for model, exact in counts.items()
        for column, number in zip((PARAMETERS, FLOPS), exact, strict=True)
    }


def savings(rule: Rule = "A") -> dict[str, float]:
    """Model -> share of ResNet-18's multiply-accumulates saved, by the default placements."""
    base = count(PLACEMENTS["ResNet-18"][0]).multiply_accumulates
    return {
        model: 1 - count(vectors[0], rule=rule).multiply_accumulates / base
        for model, vectors in PLACEMENTS.items()
    }


def common_factor(rule: Rule = "A") -> tuple[float, float]:
    """Least and greatest k for which k · exact rounds to all three printed FLOPS; empty if first > second."""
    ends = []
    for model in MODELS:  # the interval of each printed number
        printed = float(numbers()["Table 4", model, FLOPS])
        exact = exact_cells(rule)[model, FLOPS]
        ends.append(((printed - 5e6) / exact, (printed + 5e6) / exact))  # two decimals of 10⁹ are printed
    return max(low for low, _ in ends), min(high for _, high in ends)


def sites(decisions: int, first: int) -> list[list[Site]]:
    """The convolutions of each decision, the first stage's map being `first` wide."""
    every = resnet18_sites(first)
    per = len(every) // decisions  # 2 where a decision is a block, 1 where it is a convolution
    return [every[i : i + per] for i in range(0, len(every), per)]


def operator_of(code: int, site: Site, reading: Reading) -> Count:
    """An operator's count under a reading; a pool alone pads new channels with zeros, which is free."""
    if code == 0:  # the convolution itself
        return operator_cost(0, site)
    if code == 1:  # depthwise
        return operator_cost(1, site, reading.same if site.inside == site.outside else reading.change)
    return Count(0, 0) if reading.pool == "B" else operator_cost(code, site, reading.pool)


@cache
def operators_count(vector: tuple[int, ...], reading: Reading, side_names: str) -> Count:
    """All replaceable convolutions of a vector, `side_names` being one of `SIDES`."""
    maps = sites(len(vector), SIDES[side_names][1])
    places = ((code, site) for code, group in zip(vector, maps, strict=True) for site in group)
    return sum((operator_of(code, site, reading) for code, site in places), Count(0, 0))


@cache
def fixed_operations(convention: Convention) -> int:
    """Stem, and as far as the convention counts them shortcuts, classifier and batch normalisation."""
    stem, first = SIDES[convention.sides]
    operations, elements = 3 * 64 * 49 * stem**2, 64 * stem**2  # 7×7, and the outputs normalised
    if convention.classifier:
        operations += 512_000
    for (site,) in sites(16, first):
        outputs = site.outside * after(site.side, site.stride) ** 2
        elements += outputs
        if site.stride == 2:  # a shortcut, with a batch normalisation of its own
            elements += outputs
            operations += outputs * site.inside if convention.shortcuts else 0
    return operations + convention.per_element * elements


def network_count(
    vector: tuple[int, ...], reading: Reading, convention: Convention = ORDINARY
) -> tuple[int, float]:
    """ResNet-18 with 1000 classes: parameters, and operations in 10⁹ or the convention's other G."""
    parameters, operations = operators_count(vector, reading, convention.sides)
    total = operations + fixed_operations(convention)
    return parameters + FIXED_PARAMETERS, total / 1e9 / GIGA[convention.giga]


def readings() -> Iterator[Reading]:
    """The readings of the scan."""
    kinds: tuple[Kind, ...] = ("A", "B", "enas")  # "bare" differs from "B" at pools alone
    yield from (Reading(*kind) for kind in product(kinds, repeat=3))


def conventions() -> Iterator[Convention]:
    """The conventions of the scan; the first is the ordinary one."""
    yes = (True, False)  # counted or not
    yield from (Convention(*x) for x in product(SIDES, yes, yes, PER_ELEMENT, GIGA))


def scan() -> tuple[Hit, ...]:
    """Every reading, placement and convention, with how many of the printed numbers it gives, rounded.

    3 parameter counts and 3 FLOPS are printed; the latter are compared in the convention's G.
    """
    stated = [
        tuple(float(numbers()["Table 4", model, column]) / unit for model in MODELS)
        for column, unit in UNITS.items()
    ]
    return _scan(*stated, as_printed("ResNet-18-16"))


@cache
def _scan(parameters: tuple[float, ...], flops: tuple[float, ...], short: tuple[int, ...]) -> tuple[Hit, ...]:
    hits, ways = [], list(conventions())
    for reading, vector in product(readings(), insertions(short)):
        vectors = (PLACEMENTS["ResNet-18"][0], PLACEMENTS["ResNet-18-8"][0], vector)
        right = _agreeing([network_count(v, reading)[0] / 1e7 for v in vectors], parameters)
        for way in ways:
            ours = [network_count(v, reading, way)[1] for v in vectors]  # in the convention's G
            hits.append(Hit(reading, vector, way, right, _agreeing(ours, flops)))
    return tuple(hits)


def _agreeing(ours: Sequence[float], printed: Sequence[float]) -> int:
    return sum(abs(a - b) <= 0.005 for a, b in zip(ours, printed, strict=True))


def face_savings(rule: Rule = "A", decisions: int = 24, replaced: int = 8) -> tuple[float, float]:
    """Least and most that `replaced` decisions of LResNet50E-IR save, as a share of its operations."""
    choices = costs(decisions, "lresnet50e_ir", rule, 112, 512).choices
    whole = count((0,) * decisions, "lresnet50e_ir", rule, 112, 512).multiply_accumulates
    saved = []  # least and most that each decision can save
    for row in choices:
        conv, *others = row  # the count of code 0, and those of the others
        assert conv is not None
        shares = [(conv[1] - other[1]) / whole for other in others if other is not None]
        if shares:
            saved.append((min(shares), max(shares)))
    least, most = (sorted(ends) for ends in zip(*saved, strict=True))  # over decisions
    return sum(least[:replaced]), sum(most[-replaced:])


def code(vector: Sequence[int]) -> str:
    """A vector as text without commas: 1 0 0 2 …"""
    return " ".join(map(str, vector))


def printed_cells(model: str) -> dict[str, str]:
    """Column of Table 4 -> the digits as printed."""
    cells = published.load(PAPER).query("exhibit == 'Table 4' and row == @model")
    return dict(zip(cells["column"], cells["printed"], strict=True))


def tables() -> dict[str, Table]:
    """All tables of this module by name."""
    every = (exact_table(), placements_table(), scan_table(), face_savings_table())
    return {table.name: table for table in every}


def exact_table() -> Table:
    """Table 4 with both readings of the missing entry, printed beside exact, under rule A."""
    low, high = common_factor()
    base = count(PLACEMENTS["ResNet-18"][0]).multiply_accumulates
    k = (low + high) / 2  # the middle of what is possible
    rows: list[list[Cell]] = []
    for model, vectors in PLACEMENTS.items():
        stated = printed_cells(model)
        for vector in vectors:
            parameters, macs = count(vector)
            row: list[Cell] = [model, code(vector), stated[PARAMETERS], parameters, stated[FLOPS], macs]
            rows.append([*row, k * macs / 1e9, 100 * (1 - macs / base)])
    return exhibits.table("table_4", rows, k=k, low=low, high=high)


def placements_table() -> Table:
    """Every place of the missing zero under every rule: parameters and operations."""
    cells = {model: printed_cells(model) for model in ("ResNet-18-8", "ResNet-18-16")}
    rows: list[list[Cell]] = []
    for model, stated in cells.items():
        for vector, rule in product(insertions(as_printed(model)), RULES):
            places = ", ".join(str(i) for i, c in enumerate(vector) if c)
            try:
                parameters, macs = count(vector, rule=rule)
            except PapersError:  # a bare pool where channels change
                rows.append([model, places, rule, None, None, "not applicable"])
                continue
            same = "yes" if f"{parameters / 1e7:.2f}e7" == stated[PARAMETERS] else "no"
            rows.append([model, places, rule, parameters / 1e7, macs / 1e9, same])
    text = "; ".join(f"{model} {stated[PARAMETERS]} and {stated[FLOPS]}" for model, stated in cells.items())
    whole = exhibits.table("table_4_placements", rows, cells=text)
    return _only(whole, [row for row in rows if row[2] == "A" or row[-1] == "yes"])


def scan_table() -> Table:
    """Each reading of the operators: the most printed numbers that any convention gives."""
    words = {"A": "1×1 after", "B": "alone", "enas": "1×1 before"}
    hits = scan()
    rows: list[list[Cell]] = []
    for reading in readings():
        ours = [hit for hit in hits if hit.reading == reading]
        parameters = max(hit.parameters for hit in ours)
        ordinary = max(hit.right for hit in ours if hit.convention == ORDINARY)
        best, six = max(hit.right for hit in ours), sum(hit.right == 6 for hit in ours)
        rows.append([*(words[kind] for kind in reading), parameters, ordinary, best, six])
    kinds, ways = len(list(readings())), len(list(conventions()))
    whole = exhibits.table("table_4_scan", rows, points=len(hits), readings=kinds, ways=ways)
    return _only(whole, [row for row in rows if row[3] == len(MODELS)])


def _only(whole: Table, rows: Sequence[Sequence[Cell]]) -> Table:
    """The table, of which these rows are shown; the CSV has all."""
    note = f"{len(rows)} of {len(whole.rows)} rows; the CSV has all"
    return replace(whole, face=replace(whole, rows=rows, notes=(note,)))


def face_savings_table() -> Table:
    """What 5 and 8 replacements save of LResNet50E-IR, beside the printed 24 %."""
    value = numbers()["text"]
    stated = float(value["NAR, LResNet50E-IR", "fewer FLOPS"])
    rows: list[list[Cell]] = []
    for decisions, rule in product((24, 48), RULES):
        for name in ("LResNet50E-IR-Based", "LResNet50E-IR-Based-PreTrain"):
            replaced = int(value[name, "operators replaced"])
            low, high = (100 * x for x in face_savings(rule, decisions, replaced))
            rows.append([decisions, rule, replaced, low, high, "yes" if low <= stated <= high else "no"])
    return exhibits.table("face_savings", rows, stated=stated)
