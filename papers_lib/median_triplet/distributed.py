"""One run over several processes, a device each, by torchrun:

    torchrun --nproc-per-node 8 -m papers_lib.median_triplet.distributed FOLDER

FOLDER is a run's: `python -m papers_lib sweep median_triplet -p processes 8 --print-commands` makes it and
prints this command. What the processes share is in `training.share`; the triplet's negatives are those of a
process's own batch, as in the released code, unless `negative_pool` says otherwise.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from papers_lib.errors import PapersError
from papers_lib.median_triplet.study import run
from papers_lib.runs import worker
from papers_lib.runs.store import Store, read_result, read_spec


def main(folder: str) -> int:
    """Compute the run in `folder` with all processes that torchrun started; 0 when it is done."""
    path = Path(folder).absolute()
    try:
        if read_result(path) is not None:
            return 0
        spec = Store(path.parents[1]).located(read_spec(path))
        worker.refuse_other_processes(spec, path)
    except PapersError as error:
        if os.environ.get("RANK", "0") == "0":
            print(f"error: {error}", file=sys.stderr)
        return 2
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        if dist.get_rank() == 0:  # the worker, which keeps the result, runs `training.train` in turn
            return worker.main([folder])
        run(spec)
        return 0
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
