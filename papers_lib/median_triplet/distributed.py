"""One run over several processes, a device each:

    torchrun --standalone --nproc-per-node 8 -m papers_lib.runs.worker FOLDER

FOLDER is a run's: `python -m papers_lib sweep median_triplet -p processes 8 --print-commands` makes it and
prints this command. What the processes share is in `training`; negatives are those of the process's own
micro-batch, as in the released code, unless `negative_pool` says otherwise.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist

from papers_lib.errors import PapersError
from papers_lib.median_triplet import training
from papers_lib.median_triplet.options import TrainSettings
from papers_lib.runs import worker
from papers_lib.runs.store import read_spec


def main(folder: str) -> int:
    """Compute the run in `folder`, whose number of processes the worker has checked; 0 when it is done."""
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        if dist.get_rank() == 0:  # the worker, which keeps the result, runs `training.train` in turn
            return worker.one_by_one([folder])
        spec = read_spec(Path(folder))
        settings = TrainSettings.model_validate(spec.settings)
        training.train(settings, (spec.data.root, spec.data.name), Path(folder), spec.device)
        return 0
    except (
        PapersError
    ) as error:  # most likely the first process says the same: torchrun is not to cut it short
        print(f"error: {error}", file=sys.stderr)
        time.sleep(5)
        return 1
    finally:
        dist.destroy_process_group()
