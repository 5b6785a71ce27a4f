"""Sealed JSON, locks, signals, timers, reasons and full disks: what long runs stand on."""

import errno
import json
import math
import os
import signal
import threading

import pytest

from unified_base.checksums import file_sha256, parse_sealed, read_sealed, sealed_json
from unified_base.clock import Timer
from unified_base.disk import FullDiskError, naming_full_disk, quiet_threads
from unified_base.locks import hold_folder
from unified_base.reasons import Reasons
from unified_base.signals import HeldInterrupt, StopSignals

ENTRIES = {"é": [1, 2.5, None], "e": 1e300, "deep": {"x": "\ud83d\ude00", "y": []}}


@pytest.mark.parametrize("indent", [None, 1])
def test_every_bit_of_a_sealed_file_counts(tmp_path, indent):
    whole = sealed_json(ENTRIES, indent)
    assert parse_sealed(whole, "x") == (ENTRIES, True)
    assert json.loads(whole)["e"] == 1e300  # any reader of JSON reads it
    path = tmp_path / "x.json"
    for bit in range(8 * len(whole)):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"x\.json"):
            read_sealed(path)


def test_files_without_a_seal_are_read_as_they_are():
    assert parse_sealed(b'{"a": 1, "sha256": "x"}', "x") == ({"a": 1, "sha256": "x"}, False)
    assert parse_sealed(b"[3]", "x") == ([3], False)
    numbers = sealed_json({"x": math.inf})
    assert parse_sealed(numbers, "x", constants=True) == ({"x": math.inf}, True)
    with pytest.raises(ValueError, match="not JSON"):
        parse_sealed(numbers, "x")


def test_what_is_no_regular_file_has_no_checksum(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "missing", "."):
        with pytest.raises(ValueError, match="cannot read"):
            file_sha256(tmp_path / name)


def test_one_process_holds_a_folder(tmp_path):
    with (
        hold_folder(tmp_path / "a" / "b"),
        pytest.raises(ValueError, match=rf"another process \({os.getpid()}\) writes in .*b; wait"),
        hold_folder(tmp_path / "a" / "b", "writes"),
    ):
        pass
    with hold_folder(tmp_path / "a" / "b"):
        pass


def test_signals_are_noted_and_a_second_interrupt_does_not_wait():
    before = signal.getsignal(signal.SIGINT)
    with StopSignals() as signals:
        assert signals.asked == 0
        os.kill(os.getpid(), signal.SIGTERM)
        assert (signals.asked, signals.exit_code) == (signal.SIGTERM, 143)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupt_is_held_to_the_end_of_a_block_and_a_second_is_not():
    done = []

    def interrupted(times):
        with HeldInterrupt():
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)
            done.append(times)

    for times in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            interrupted(times)
    assert done == [1]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_timer_is_due_or_never():
    assert not Timer(0).due
    assert not Timer(1000).due
    timer = Timer(1e-12)
    assert timer.due
    timer.restart()
    assert timer.due


def test_reasons_that_differ_in_numbers_and_names_are_one():
    reasons = Reasons(keep=2)
    assert reasons.commonest is None
    for number in range(4):
        reasons.add(f"k{number}", f"a picture 'x{number}.png' of {number}x7 pixels")
    reasons.add("z", "it is empty")
    assert reasons.count == 5
    assert reasons.first == ["k0: a picture 'x0.png' of 0x7 pixels",
                             "k1: a picture 'x1.png' of 1x7 pixels"]  # fmt: skip
    assert reasons.commonest == (4, "k0: a picture 'x0.png' of 0x7 pixels")


def test_a_full_disk_is_named_and_other_errors_pass():
    message = "cannot write there: No space left on device; free"
    with pytest.raises(FullDiskError, match=message), naming_full_disk("there"):
        raise OSError(errno.ENOSPC, "x")
    with pytest.raises(OSError, match="denied"), naming_full_disk("there"):
        raise OSError(errno.EACCES, "denied")


def test_threads_that_a_full_disk_ends_are_quiet(monkeypatch):
    told = []
    monkeypatch.setattr(threading, "excepthook", told.append)

    def fail(number):
        raise OSError(number, "x")

    with quiet_threads():
        for number in (errno.ENOSPC, errno.EACCES):
            thread = threading.Thread(target=fail, args=(number,))
            thread.start()
            thread.join()
    assert [ended.exc_value.errno for ended in told] == [errno.EACCES]
