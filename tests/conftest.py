"""What all tests share: a worker of the run has a core, and two threads would fight for it."""

import os

# Before torch is imported: two workers of two threads each are slower on two cores than of one.
os.environ.setdefault("OMP_NUM_THREADS", "1")
