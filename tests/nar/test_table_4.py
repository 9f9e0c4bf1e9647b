import itertools

import pytest

from papers_lib.nar.counting import count
from papers_lib.nar.operators import check
from papers_lib.nar.study import table_4
from papers_lib.nar.study.table_4 import ORDINARY, Convention, Reading, network_count


def places(vector):
    return tuple(i for i, code in enumerate(vector) if code)


def test_printed_vectors_are_one_entry_short():
    assert table_4.as_printed("ResNet-18") == (0,) * 7
    assert table_4.as_printed("ResNet-18-8") == (1, 0, 0, 0, 0, 0, 0)
    assert table_4.as_printed("ResNet-18-16") == (1, 0, 0, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 2)


def test_insertions_are_all_vectors_that_lose_a_zero_to_the_printed_one():
    found = table_4.insertions((1, 0, 2))
    every = itertools.product(range(3), repeat=4)
    assert sorted(found) == sorted(
        v for v in every if any(v[i] == 0 and v[:i] + v[i + 1 :] == (1, 0, 2) for i in range(4))
    )
    five = {places(vector) for vector in table_4.insertions(table_4.as_printed("ResNet-18-16"))}
    assert five == {(1, 4, 9, 15), (0, 4, 9, 15), (0, 3, 9, 15), (0, 3, 8, 15), (0, 3, 8, 14)}


def test_placements_are_insertions_that_count_alike():
    for model, vectors in table_4.PLACEMENTS.items():
        for vector in vectors:
            assert vector in table_4.insertions(table_4.as_printed(model))
            assert check(vector, table_4.MODELS[model]) == vector
        assert len({count(vector) for vector in vectors}) == 1


def test_savings_are_those_of_the_text():
    text = {
        "A": [0, 11.13, 19.71],
        "B": [0, 12.55, 20.76],
        "bare": [0, 12.55, 22.18],
        "enas": [0, 9.71, 17.22],
    }
    for rule, savings in text.items():
        assert [round(100 * x, 2) for x in table_4.savings(rule).values()] == savings


def test_one_factor_maps_the_exact_to_the_printed_flops():
    low, high = table_4.common_factor()
    assert (round(low, 4), round(high, 4)) == (0.9707, 0.9715)
    exact = [table_4.exact_cells()[model, "FLOPS"] for model in table_4.MODELS]
    for k in (low + 1e-6, 0.971, high - 1e-6):
        assert [f"{k * x / 1e9:.2f}" for x in exact] == ["1.76", "1.57", "1.41"]
    for k in (low - 1e-4, high + 1e-4):
        assert [f"{k * x / 1e9:.2f}" for x in exact] != ["1.76", "1.57", "1.41"]
    assert table_4.common_factor("enas")[0] > table_4.common_factor("enas")[1]


@pytest.mark.parametrize("rule", ["A", "B", "enas"])
def test_the_scans_ordinary_count_is_the_counter(rule):
    reading = Reading(rule, rule, "A" if rule == "B" else rule)
    for vectors in table_4.PLACEMENTS.values():
        for vector in vectors:
            parameters, operations = network_count(vector, reading)
            assert (parameters, round(operations * 1e9)) == count(vector, rule=rule)


def test_conventions_change_what_they_say():
    zeros, reading = (0,) * 8, Reading("A", "A", "A")
    whole = network_count(zeros, reading)[1]
    parts = {"shortcuts": 64 * 128 * 28**2 + 128 * 256 * 14**2 + 256 * 512 * 7**2, "classifier": 512_000}
    for name, missing in parts.items():
        found = network_count(zeros, reading, ORDINARY._replace(**{name: False}))[1]
        assert round((whole - found) * 1e9) == missing
    # Every batch normalisation's outputs: the stem, four maps a stage, three shortcuts.
    maps = 64 * 112**2 + sum(4 * c * s**2 for c, s in ((64, 56), (128, 28), (256, 14), (512, 7)))
    maps += 128 * 28**2 + 256 * 14**2 + 512 * 7**2
    normalised = network_count(zeros, reading, ORDINARY._replace(per_element=2))[1]
    assert round((normalised - whole) * 1e9) == 2 * maps == 4_967_424
    assert network_count(zeros, reading, Convention(giga="1024 · 10⁶"))[1] == pytest.approx(whole / 1.024)
    assert network_count(zeros, reading, Convention(sides="both unpadded"))[1] < whole


def test_no_ordinary_count_gives_table_4_and_all_full_hits_share_one_reading():
    hits = table_4.scan()
    assert len(hits) == 27 * 5 * 256
    assert max(hit.parameters + hit.flops for hit in hits if hit.convention == ORDINARY) == 3
    full = [hit for hit in hits if hit.parameters + hit.flops == 6]
    assert {(hit.reading.same, hit.reading.change) for hit in full} == {("A", "B")}
    assert {hit.reading.pool for hit in full} == {"A", "enas"}
    assert {places(hit.vector) for hit in full} == {(0, 3, 8, 15), (0, 3, 8, 14)}
    assert all(hit.convention != ORDINARY for hit in full)
    assert any(hit.convention == Convention("3×3 pool unpadded", giga="1024 · 10⁶") for hit in full)


def test_parameters_alone_fix_the_placement_and_need_a_point_convolution_at_pools():
    right = [hit for hit in table_4.scan() if hit.parameters == 3]
    assert {places(hit.vector) for hit in right} == {(0, 3, 8, 15), (0, 3, 8, 14)}
    assert {hit.reading.pool for hit in right} == {"A", "enas"}


def test_the_hit_without_ordinary_counting_rounds_as_printed():
    reading = Reading("A", "B", "A")
    way = Convention("3×3 pool unpadded", giga="1024 · 10⁶")
    found = [network_count(vectors[0], reading, way) for vectors in table_4.PLACEMENTS.values()]
    assert [f"{operations:.4f}" for _, operations in found] == ["1.7556", "1.5654", "1.4073"]
    assert [parameters for parameters, _ in found] == [11_689_512, 11_625_128, 9_234_792]


def test_what_whole_face_blocks_can_save():
    ends = {
        "A": {5: [16.1, 26.1], 8: [25.8, 35.8]},
        "bare": {5: [18.1, 29.2], 8: [29.1, 40.2]},
        "enas": {5: [14.1, 23.6], 8: [22.6, 33.4]},
    }
    for rule, replaced in itertools.product(ends, (5, 8)):
        found = [round(100 * x, 1) for x in table_4.face_savings(rule, 24, replaced)]
        assert found == ends[rule][replaced]


def test_face_savings_are_those_of_vectors():
    base = count([0] * 24, "lresnet50e_ir", "A", 112, 512)[1]
    low, high = table_4.face_savings("A", 24, 1)
    vectors = ([code * (i == place) for i in range(24)] for place in range(24) for code in (1, 2))
    each = [1 - count(vector, "lresnet50e_ir", "A", 112, 512)[1] / base for vector in vectors]
    assert (low, high) == (pytest.approx(min(each)), pytest.approx(max(each)))


def test_tables_show_what_was_found():
    found = table_4.tables()
    assert list(found) == ["table_4", "table_4_placements", "table_4_scan", "face_savings"]
    assert [round(row[6], 2) for row in found["table_4"].rows] == [1.76, 1.57, 1.57, 1.41, 1.41]
    assert len(found["table_4_placements"].rows) == (2 + 5) * 4
    assert sum(row[-1] for row in found["table_4_scan"].rows) == 40
    assert {row[2] for row in found["face_savings"].rows} == {5, 8}
