import pytest
from planted import planted

from papers_lib.errors import PapersError
from papers_lib.exhibits.provenance import comparable, provenance
from papers_lib.runs.spec import Data, RunSpec


def row(seed=0, profile="small", name="cars196_half", stand_in=False, **changes):
    data = Data(name=name, stand_in=stand_in)
    spec = RunSpec(paper="toy", function="f", profile=profile, settings={"seed": seed}, data=data)
    known = {"commit": "1234567890", "code": "abcdefghij", "seconds": 1800.4}
    return planted(spec, {}, **known | changes)


def test_the_footer_says_where_the_numbers_come_from():
    got = provenance([row(1), row(0), row(2)], "small")
    assert got.text == (
        "profile small · data cars196_half · 3 runs · seeds 0, 1, 2 · commit 1234567 · code abcdefg · "
        "torch 2.15.0 · device cpu · 1 h 30 min of computing"
    )


def test_several_commits_codes_and_devices_show():
    rows = [row(i, commit=f"{i}" * 9, dirty=i == 4, code=f"c{i}") for i in range(5)]
    rows[0] = rows[0].model_copy(update={"device": "NVIDIA H200", "commit": ""})
    text = provenance(rows, "small").text
    assert "commit 1111111, 2222222, 3333333, 2 more" in text
    assert "code mixed" in text and "device NVIDIA H200, cpu" in text
    assert "commit 4444444+dirty" in provenance(rows[4:], "small").text
    assert "1 run · seed 4" in provenance(rows[4:], "small").text
    assert "commit none" in provenance(rows[:1], "small").text


def test_the_profile_is_that_of_the_rows_and_a_stand_in_is_marked():
    assert provenance([row()]) == provenance([row()], "small")
    assert provenance([]).text == "no runs yet"
    assert provenance([], "medium").text == "profile medium · no runs yet"
    assert "data cars196 (stand-in)" in provenance([row(name="cars196", stand_in=True)], "small").text


def test_the_order_of_rows_changes_nothing():
    rows = [row(i, commit=f"{i}" * 9, code=f"c{i}") for i in range(5)]
    assert provenance(rows, "small") == provenance(rows[::-1], "small")


@pytest.mark.parametrize(
    ("rows", "profile", "badge", "same"),
    [
        ([], "small", "not run", False),
        ([row(profile="smoke")], "smoke", "SMOKE: stand-in data, numbers mean nothing", False),
        ([row(), row(stand_in=True)], "small", "stand-in data", False),
        ([row()], "small", "profile small, not the paper's setting: not comparable", False),
        ([row(profile="paper")], "paper", "not the paper's data set: not comparable", False),
        ([row(profile="paper", name="cars196")], "paper", "", True),
        ([row(profile="paper", name="cars196", stand_in=True)], "paper", "stand-in data", False),
    ],
)
def test_the_badge_says_what_the_numbers_are_worth(rows, profile, badge, same):
    got = provenance(rows, profile, "cars196")
    assert (got.badge, got.comparable) == (badge, same)
    assert comparable(rows, "cars196") == same
    assert not provenance(rows, profile).comparable


def test_profiles_are_never_mixed():
    for arguments in (([row(), row(profile="medium")],), ([row()], "medium")):
        with pytest.raises(PapersError, match="profiles medium, small;"):
            provenance(*arguments)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min"), (61, "1 min"), (7260, "2 h 1 min")]
)
def test_durations_are_short(seconds, text):
    assert provenance([row(seconds=seconds)], "small").text.endswith(f" · {text} of computing")
