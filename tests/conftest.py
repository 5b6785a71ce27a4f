"""What all tests share: a worker of the run has a core, and two threads would fight for it."""

import os

# Before torch is imported. Two workers of two threads each took 359 s on two cores, of one each 60.
os.environ.setdefault("OMP_NUM_THREADS", "1")
