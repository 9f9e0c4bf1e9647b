"""Table 4: which architectures it means, their exact counts, and which ways to count give its digits.

All three printed vectors are one entry short: 7, 7 and 15 for 8, 8 and 16 decisions. Nothing is trained here:
a reading is judged by parameters and operations alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import product
from typing import Literal, NamedTuple

from papers_lib.errors import PapersError
from papers_lib.exhibits import published
from papers_lib.exhibits.table import Cell, Table
from papers_lib.nar.counting import Count, Site, costs, count, operator_cost
from papers_lib.nar.operators import RULES, Rule
from papers_lib.nar.printed import PAPER, numbers

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
    "padded": (112, 56), "3×3 pool unpadded": (112, 55), "stem unpadded": (109, 55),
    "both unpadded": (109, 54),
}  # fmt: skip
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


def as_printed(model: str) -> tuple[int, ...]:
    """The vector as Table 4 prints it."""
    cells = numbers()["Table 4"][model]
    return tuple(int(x) for name, x in cells.items() if str(name).startswith("Architecture"))


def insertions(vector: Sequence[int]) -> list[tuple[int, ...]]:
    """All vectors that one more zero can make, without doubles."""
    made = [(*vector[:i], 0, *vector[i:]) for i in range(len(vector) + 1)]
    return list(dict.fromkeys(made))


def exact_cells(rule: Rule = "A") -> dict[tuple[str, str], int]:
    """Row and column of Table 4 -> our exact number, by the default placements."""
    counts = {model: count(vectors[0], rule=rule) for model, vectors in PLACEMENTS.items()}
    return {
        (model, column): number
        for model, found in counts.items()
        for column, number in zip((PARAMETERS, FLOPS), found, strict=True)
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
    for model in MODELS:
        printed = float(numbers()["Table 4", model, FLOPS])
        exact = exact_cells(rule)[model, FLOPS]
        ends.append(((printed - 5e6) / exact, (printed + 5e6) / exact))
    return max(low for low, _ in ends), min(high for _, high in ends)


def sites(decisions: int, first: int) -> list[list[Site]]:
    """The convolutions of each decision, the first stage's map being `first` wide."""
    found, side = [], first
    for stage, outside in enumerate((64, 128, 256, 512)):
        inside, stride = (64, 1) if stage == 0 else (outside // 2, 2)
        after = -(-side // stride)
        found += [Site(inside, outside, stride, side), *[Site(outside, outside, 1, after)] * 3]
        side = after
    per = len(found) // decisions
    return [found[i : i + per] for i in range(0, len(found), per)]


def operator_of(code: int, site: Site, reading: Reading) -> Count:
    """An operator's count under a reading; a pool alone pads new channels with zeros, which is free."""
    if code == 0:
        return operator_cost(0, site)
    if code == 1:
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
    found, elements = 3 * 64 * 49 * stem**2 + 512_000 * convention.classifier, 64 * stem**2
    for (site,) in sites(16, first):
        outputs = site.outside * (-(-site.side // site.stride)) ** 2
        elements += outputs * site.stride  # a stride of 2 has a shortcut beside it
        found += outputs * site.inside * (site.stride == 2) * convention.shortcuts
    return found + convention.per_element * elements


def network_count(
    vector: tuple[int, ...], reading: Reading, convention: Convention = ORDINARY
) -> tuple[int, float]:
    """ResNet-18 with 1000 classes: parameters, and operations in 10⁹ or the convention's other G."""
    parameters, operations = operators_count(vector, reading, convention.sides)
    total = operations + fixed_operations(convention)
    return parameters + FIXED_PARAMETERS, total / 1e9 / GIGA[convention.giga]


def readings() -> Iterator[Reading]:
    """The readings of the scan."""
    kinds: tuple[Kind, ...] = ("A", "B", "enas")
    yield from (Reading(*kind) for kind in product(kinds, repeat=3))


def conventions() -> Iterator[Convention]:
    """The conventions of the scan; the first is the ordinary one."""
    yes = (True, False)
    yield from (Convention(*x) for x in product(SIDES, yes, yes, PER_ELEMENT, GIGA))


def scan() -> tuple[Hit, ...]:
    """Every reading, placement and convention, with how many of the printed numbers it gives, rounded.

    3 parameter counts and 3 FLOPS are printed; the latter are compared in the convention's G.
    """
    shown = [
        tuple(float(numbers()["Table 4", model, column]) / unit for model in MODELS)
        for column, unit in UNITS.items()
    ]
    return _scan(*shown, as_printed("ResNet-18-16"))


@cache
def _scan(parameters: tuple[float, ...], flops: tuple[float, ...], short: tuple[int, ...]) -> tuple[Hit, ...]:
    found, ways = [], list(conventions())
    for reading, vector in product(readings(), insertions(short)):
        vectors = (PLACEMENTS["ResNet-18"][0], PLACEMENTS["ResNet-18-8"][0], vector)
        right = _agreeing([network_count(v, reading)[0] / 1e7 for v in vectors], parameters)
        for way in ways:
            ours = [network_count(v, reading, way)[1] for v in vectors]
            found.append(Hit(reading, vector, way, right, _agreeing(ours, flops)))
    return tuple(found)


def _agreeing(ours: Sequence[float], printed: Sequence[float]) -> int:
    return sum(abs(a - b) <= 0.005 for a, b in zip(ours, printed, strict=True))


def face_savings(rule: Rule = "A", decisions: int = 24, replaced: int = 8) -> tuple[float, float]:
    """Least and most that `replaced` decisions of LResNet50E-IR save, as a share of its operations."""
    found = costs(decisions, "lresnet50e_ir", rule, 112, 512)
    whole = count((0,) * decisions, "lresnet50e_ir", rule, 112, 512).multiply_accumulates
    saved = []
    for row in found.choices:
        conv, *others = row
        assert conv is not None
        shares = [(conv[1] - other[1]) / whole for other in others if other is not None]
        if shares:
            saved.append((min(shares), max(shares)))
    least, most = (sorted(ends) for ends in zip(*saved, strict=True))
    return sum(least[:replaced]), sum(most[-replaced:])


def tables() -> dict[str, Table]:
    """All tables of this module by name."""
    found = (exact_table(), placements_table(), scan_table(), face_savings_table())
    return {table.name: table for table in found}


def exact_table() -> Table:
    """Table 4 with both readings of the missing entry, printed beside exact, under rule A."""
    low, high = common_factor()
    base = count(PLACEMENTS["ResNet-18"][0]).multiply_accumulates
    k = (low + high) / 2
    rows: list[list[Cell]] = []
    for model, vectors in PLACEMENTS.items():
        shown = printed_cells(model)
        for vector in vectors:
            exact = count(vector)
            saving = 100 * (1 - exact[1] / base)
            rows.append([model, code(vector), shown[PARAMETERS], exact[0], shown[FLOPS], exact[1],
                         k * exact[1] / 1e9, saving])  # fmt: skip
    columns = [
        "model", "architecture, as read", "parameters, printed", "exact", "FLOPS, printed",
        "multiply-accumulates, exact", f"× {k:.4f}, G", "saving, %",
    ]  # fmt: skip
    return Table(
        "table_4", "Table 4: the printed numbers beside exact ones", columns, rows,
        footer="exact: depthwise 3×3 and 1×1, pool 3×3 and 1×1; 224 pixels, 1000 classes, convolutions "
        f"and classifier; one factor in [{low:.4f}, {high:.4f}] maps all three to the printed FLOPS",
    )  # fmt: skip


def code(vector: Sequence[int]) -> str:
    """A vector as text without commas: 1 0 0 2 …"""
    return " ".join(map(str, vector))


def printed_cells(model: str) -> dict[str, str]:
    """Column of Table 4 -> the digits as printed."""
    found = published.load(PAPER).query("exhibit == 'Table 4' and row == @model")
    return dict(zip(found["column"], found["printed"], strict=True))


def placements_table() -> Table:
    """Every place of the missing zero under every rule: parameters and operations."""
    rows: list[list[Cell]] = []
    for model in ("ResNet-18-8", "ResNet-18-16"):
        shown = printed_cells(model)
        for vector, rule in product(insertions(as_printed(model)), RULES):
            places = ", ".join(str(i) for i, c in enumerate(vector) if c)
            rows.append([model, places, rule, *_beside(vector, rule, shown[PARAMETERS])])
    columns = ["model", "replaced decisions", "rule", "parameters, 10⁷", "operations, 10⁹", "rounds to print"]
    return Table(
        "table_4_placements", "Table 4: where the missing zero can go", columns, rows, decimals=4,
        footer="printed: " + "; ".join(
            f"{model} {printed_cells(model)[PARAMETERS]} and {printed_cells(model)[FLOPS]}"
            for model in ("ResNet-18-8", "ResNet-18-16")
        ),
    )  # fmt: skip


def _beside(vector: tuple[int, ...], rule: Rule, shown: str) -> list[Cell]:
    try:
        exact = count(vector, rule=rule)
    except PapersError:  # a bare pool where channels change
        return [None, None, "not applicable"]
    parameters = exact[0] / 1e7
    return [parameters, exact[1] / 1e9, "yes" if f"{parameters:.2f}e7" == shown else "no"]


WORDS = {"A": "1×1 after", "B": "alone", "enas": "1×1 before"}


def scan_table() -> Table:
    """Each reading of the operators: the most printed numbers that any convention gives."""
    hits = scan()
    rows: list[list[Cell]] = []
    for reading in readings():
        own = [hit for hit in hits if hit.reading == reading]
        ordinary = max(hit.parameters + hit.flops for hit in own if hit.convention == ORDINARY)
        best = max(hit.parameters + hit.flops for hit in own)
        six = sum(hit.parameters + hit.flops == 6 for hit in own)
        rows.append(
            [*(WORDS[kind] for kind in reading), max(hit.parameters for hit in own), ordinary, best, six]
        )
    columns = [
        "depthwise, channels kept", "depthwise, changed", "pool", "parameters right, of 3",
        "all right, of 6, ordinary count", "any count", "counts with all 6",
    ]  # fmt: skip
    return Table(
        "table_4_scan", "Table 4: which readings and counts give the printed digits", columns, rows,
        footer=f"{len(hits):,} points: {len({h.reading for h in hits})} readings, 5 placements, "
        f"{len(list(conventions()))} ways to count (unpadded stem or pool, shortcuts, classifier, batch "
        "normalisation, four sizes of a G); with so many a hit is possible, not found",
    )  # fmt: skip


def face_savings_table() -> Table:
    """What 5 and 8 replacements save of LResNet50E-IR, beside the printed 24 %."""
    value = numbers()["text"]
    shown = float(value["NAR, LResNet50E-IR", "fewer FLOPS"])
    rows: list[list[Cell]] = []
    for decisions, rule in product((24, 48), RULES):
        for name in ("LResNet50E-IR-Based", "LResNet50E-IR-Based-PreTrain"):
            replaced = int(value[name, "operators replaced"])
            low, high = (100 * x for x in face_savings(rule, decisions, replaced))
            rows.append([decisions, rule, replaced, low, high, "yes" if low <= shown <= high else "no"])
    return Table(
        "face_savings", f"LResNet50E-IR: can the printed saving of {shown:g} % be?",
        ["decisions", "rule", "replaced", "saves at least, %", "at most, %", "possible"], rows, decimals=1,
        footer="exact; the vectors of Table 1 are not in our text",
    )  # fmt: skip
