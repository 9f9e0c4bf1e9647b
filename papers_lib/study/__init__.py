"""A study is arms × seeds × profiles: what every paper of this companion is asked, written once."""

from papers_lib.study.data import Arm, Size, Statement
from papers_lib.study.results import Gap, Results, Values, difference, gap, mean, not_run
from papers_lib.study.study import QUOTED, Answer, Place, Study, run_training, start_weights, weights_of

__all__ = [
    "QUOTED",
    "Answer",
    "Arm",
    "Gap",
    "Place",
    "Results",
    "Size",
    "Statement",
    "Study",
    "Values",
    "difference",
    "gap",
    "mean",
    "not_run",
    "run_training",
    "start_weights",
    "weights_of",
]
