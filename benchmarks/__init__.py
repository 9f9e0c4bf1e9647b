"""Side by side with public peers and plain ways, in one run, as ratios: `python -m benchmarks.NAME`.

Threads that wait in a loop for each other stall for a time slice wherever the cores are shared, and
the more parallel steps a way of computing has, the more it suffers. All candidates here wait passively,
which is fair to each and keeps a busy machine from deciding the ratios.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read when torch is loaded, so before that
