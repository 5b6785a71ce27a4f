"""How OpenMP's threads wait, in a process that imports one of the packages."""

import os
import subprocess
import sys

import pytest

VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def policy(code, **chosen):
    """OMP_WAIT_POLICY after some imports, with these variables set and no others."""
    environment = {k: v for k, v in os.environ.items() if k not in VARIABLES} | chosen
    code = f"{code}; import os; print(os.environ.get('OMP_WAIT_POLICY'))"
    process = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    return process.stdout.strip()


@pytest.mark.parametrize("package", ["unified", "unified_tokenizers"])
def test_threads_sleep_while_they_wait(package):
    assert policy(f"import {package}") == "PASSIVE"


def test_what_the_user_has_chosen_stays():
    assert policy("import unified", OMP_WAIT_POLICY="ACTIVE") == "ACTIVE"
    assert policy("import unified", GOMP_SPINCOUNT="1000") == "None"


def test_after_torch_it_would_do_nothing():
    assert policy("import sys; sys.modules['torch'] = sys; import unified") == "None"
