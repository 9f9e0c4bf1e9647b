"""A door of the notebook: see `papers_lib.sampler_study.study.explore`."""

from papers_lib.sampler_study.study.explore import explore

__all__ = ["explore"]
