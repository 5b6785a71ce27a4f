"""What all tests share: a worker of the run has a core, and two threads would fight for it."""

import gc
import json
import os

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says more of what else the machine does than of the code.
settings.register_profile(
    "any_machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any_machine")

# Before torch is imported: two workers of two threads each are slower on two cores than of one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# No test takes the power away: its files need not reach the disk, which is thousands of waits.
os.fsync = lambda descriptor: None


def pytest_collection_finish():
    """What is imported by now stays: the garbage collector need not look through it again."""
    gc.collect()
    gc.freeze()
    # Libraries that tests import later make a million objects that stay, too.
    gc.set_threshold(50_000, 10, 10)


@pytest.fixture(scope="session")
def forget_checksums():
    """A function: makes a folder of shards like those written before there were checksums, and
    changes its index by a function of the index, if one is given."""

    def forget(folder, change=lambda index: None):
        for path in folder.glob("*.sums"):
            path.unlink()
        index = json.loads((folder / "index.json").read_text("utf-8"))
        for row in index["shards"]:
            row.pop("sha256", None)
        for entry in ("sealed", "sha256"):
            index.pop(entry, None)
        change(index)
        (folder / "index.json").write_text(json.dumps(index), "utf-8")

    return forget
