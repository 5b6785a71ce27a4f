"""The fuzzing: the readers stand a sample of it, and it notices each kind of fault it looks for."""

import ctypes
import os
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def fuzzing():
    sys.path.append(str(BENCHMARKS))
    try:
        import _fuzz
        import _fuzz_cases
    finally:
        sys.path.remove(str(BENCHMARKS))
    return _fuzz, _fuzz_cases.Cases


def test_the_readers_accept_or_refuse_whatever_comes(fuzzing):
    fuzz, _ = fuzzing
    outcome = fuzz.fuzz(250, seed=5)
    assert outcome["failures"] == []
    assert (outcome["fuzz_cases"], outcome["fuzz_failures"]) == (250, 0)
    assert outcome["accepted"] + outcome["refused"] == 250
    assert min(outcome["accepted"], outcome["refused"]) > 30
    assert len(outcome["by_target"]) == 16 + (find_spec("pyarrow") is not None)
    assert sum(outcome["by_reason"].values()) <= outcome["refused"]


def hang():
    time.sleep(60)


def crash():
    ctypes.string_at(0)


def grow():
    bytearray(b"x") * (1 << 28)


def run_a_program():
    os.system("true")


def evaluate():
    exec("1")


def raise_another():
    raise TypeError("unhashable type: 'list'")


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (raise_another, "TypeError: unhashable"),
        (hang, "_Hang: took longer than 0.2 s"),
        (crash, "the process ended with -11"),
        (grow, "memory grew by 2"),
        (run_a_program, "os.system"),
        (evaluate, "exec <code object"),
    ],
)
def test_each_fault_is_one_failure(fuzzing, monkeypatch, fault, error):
    fuzz, cases = fuzzing
    real = cases.run

    def run(self, case):
        if case == 7:
            fault()
        return real(self, case)

    monkeypatch.setattr(cases, "run", run)
    monkeypatch.setattr(fuzz, "SECONDS", 0.2)
    monkeypatch.setattr(fuzz, "GROWTH", 1 << 27)
    outcome = fuzz.fuzz(12, seed=5)
    assert (outcome["fuzz_cases"], outcome["fuzz_failures"]) == (12, 1)
    assert outcome["accepted"] + outcome["refused"] == 11
    (failure,) = outcome["failures"]
    assert (failure["case"], failure["seed"]) == (7, 5)
    assert error in failure["error"]


def test_a_file_outside_its_folder_is_noticed(fuzzing, monkeypatch):
    fuzz, cases = fuzzing
    real = cases.run

    def run(self, case):
        if case == 7:
            (self._folder / "outside" / "secret.png").read_bytes()
        return real(self, case)

    monkeypatch.setattr(cases, "run", run)
    outcome = fuzz.fuzz(12, seed=5)
    assert outcome["fuzz_failures"] == 1
    assert "did ['open " in outcome["failures"][0]["error"]
