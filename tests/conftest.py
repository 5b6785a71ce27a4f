"""What all tests share: a worker of the run has a core, and two threads would fight for it."""

import os

# Before torch is imported. Two workers of two threads each on two cores took half as long again.
os.environ.setdefault("OMP_NUM_THREADS", "1")
