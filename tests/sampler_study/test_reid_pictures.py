"""The pictures of a camera network say of each image what its file name says."""

import re
from types import SimpleNamespace

import pytest

from papers_lib.sampler_study.study import images


@pytest.fixture
def book(tiny_market):
    spec = SimpleNamespace(data=SimpleNamespace(name="market1501"))
    return SimpleNamespace(specs=[spec], settings=SimpleNamespace(data_root=str(tiny_market)))


def rows(figure):
    return [list(row.itertuples()) for _, row in figure.data.groupby("row")]


def identity(cell):
    return int(cell.image[:4])


def camera(cell):
    return int(re.search(r"_c(\d)", cell.image)[1])


def test_a_strip_has_an_image_of_an_identity_from_each_camera(book):
    for number, row in enumerate(rows(images.strip(book)), 1):
        assert [(identity(cell), camera(cell)) for cell in row] == [(number, c) for c in (1, 2, 3)]
        assert [cell.caption for cell in row] == [f"camera {camera(cell)}" for cell in row]


def test_batches_hold_what_their_sampler_promises(book):
    random, cluster, proxy, group = rows(images.batches(book))
    # the colours of the tiny network are so clear that its clusters are its people
    for row in (random, cluster, proxy, group):
        people = [identity(cell) for cell in row]
        for cell in row:
            alike = [identity(other) for other in row if other.colour == cell.colour]
            if cell.colour == images.ALONE:
                assert people.count(identity(cell)) == 1
            else:
                assert set(alike) == {identity(cell)} and len(alike) == people.count(identity(cell)) > 1
    for row in (cluster, proxy, group):
        assert len({identity(cell) for cell in row[:4]}) == len({identity(cell) for cell in row[4:]}) == 1
    assert len({camera(cell) for cell in proxy[:4]}) == len({camera(cell) for cell in proxy[4:]}) == 1


def test_the_top_five_are_right_where_they_show_the_query(book):
    for query, *found in rows(images.top_five(book)):
        assert len(found) == 5
        for cell in found:
            right = identity(cell) == identity(query)
            assert cell.caption == ("right" if right else "wrong")
            assert cell.colour == (images.RIGHT if right else images.WRONG)
            assert not (right and camera(cell) == camera(query))


def test_rendered_people_stand_where_the_photographs_are_not(book, tiny_market, tmp_path, monkeypatch):
    (tmp_path / "standin").mkdir()
    (tmp_path / "standin" / "market1501").symlink_to(tiny_market / "market1501")
    monkeypatch.setenv("PAPERS_DATA", str(tmp_path))
    for root in ("", str(tmp_path / "nothing")):
        book.settings.data_root = root
        assert images.strip(book).badge == images.BADGE
