"""Alarms: what is no number, what leaps, what grows; what was before, and what ends a run."""

import json

import pytest

from unified.training.config import Alarms
from unified.training.loss_monitor import LossMonitor

KEYS = [f"s/{number}" for number in range(100)]


def calm(monitor, steps, loss=2.0, norm=1.0, warm=True, first=1):
    for step in range(first, first + steps):
        assert monitor.check(step, {"text": loss, "image": 3 * loss}, 1.0, norm, KEYS, warm) == []


@pytest.fixture
def monitor(tmp_path):
    return LossMonitor(Alarms(spike=1.5, output_norm=3.0, stop=("nan", "output_norm")), tmp_path)


@pytest.mark.parametrize("figures", [
    ({"text": float("nan")}, 1.0, 1.0), ({"text": 2.0}, float("inf"), 1.0),
    ({"text": 2.0}, 1.0, float("nan")),
])  # fmt: skip
def test_what_is_no_number_is_an_alarm_at_once(monitor, tmp_path, figures):
    losses, gradient, norm = figures
    (alarm,) = monitor.check(1, losses, gradient, norm, KEYS, False)
    assert (alarm.kind, alarm.stop, alarm.step) == ("nan", True, 1)
    assert alarm.keys == tuple(KEYS[:64])
    assert "this step changed nothing; samples s/0, s/1, s/2, ..." in str(alarm)

    def strict(name):
        raise AssertionError(f"{name} is not JSON")

    (line,) = (tmp_path / "alarms.jsonl").read_text("utf-8").splitlines()
    row = json.loads(line, parse_constant=strict)
    assert (row["value"], row["limit"]) in (("nan", None), ("inf", None))
    json.dumps(monitor.state(), allow_nan=False)


def test_a_loss_that_leaps_is_an_alarm_of_its_modality(monitor):
    assert monitor.check(1, {"text": 9.0}, 1.0, 1.0, KEYS, True) == []  # nothing to compare it with
    calm(monitor, 9, first=2)
    assert monitor.check(11, {"text": 2.9, "image": 8.9}, 1.0, 1.0, KEYS, True) == []
    (alarm,) = monitor.check(12, {"text": 2.0, "image": 9.1}, 1.0, 1.0, KEYS, True)
    assert (alarm.kind, alarm.what, alarm.limit) == ("spike", "the image loss", 9.0)
    assert not alarm.stop
    assert "the image loss is 9.100, above 9.000" in str(alarm)
    # One leap does not change what is usual; a new level in time does.
    assert monitor.check(13, {"image": 9.1}, 1.0, 1.0, KEYS, True)
    for step in range(14, 64):
        monitor.check(step, {"image": 9.1}, 1.0, 1.0, KEYS, True)
    assert monitor.check(65, {"image": 9.1}, 1.0, 1.0, KEYS, True) == []


def test_an_output_norm_that_grows_is_an_alarm_once_there_is_a_measure(monitor):
    calm(monitor, 30, norm=50.0, warm=False)  # during warm-up it may be anything
    calm(monitor, 60, norm=2.0, first=31)
    assert monitor.check(91, {"text": 2.0}, 1.0, 5.9, KEYS, True) == []
    (alarm,) = monitor.check(92, {"text": 2.0}, 1.0, 6.1, KEYS, True)
    assert (alarm.kind, alarm.limit, alarm.stop) == ("output_norm", 6.0, True)
    # The measure is that of the first steps: slow growth is noticed, too.
    for step in range(93, 200):
        monitor.check(step, {"text": 2.0}, 1.0, 5.0, KEYS, True)
    assert monitor.check(200, {"text": 2.0}, 1.0, 6.1, KEYS, True)


def test_a_watch_goes_on_where_it_was(monitor, tmp_path):
    calm(monitor, 12)
    other = LossMonitor(monitor.settings, tmp_path / "other", 1)
    other.load_state(json.loads(json.dumps(monitor.state())))
    assert other.state() == monitor.state()
    other.folder.mkdir()
    (alarm,) = other.check(13, {"text": 3.1}, 1.0, 1.0, KEYS, True)
    assert alarm.kind == "spike"
    (row,) = (other.folder / "alarms.jsonl").read_text("utf-8").splitlines()
    assert json.loads(row)["process"] == 1


ROW = '{"step": %d, "kind": "nan", "keys": ["s/\u00e4"], "process": 0}\n'


@pytest.mark.parametrize(
    ("text", "step", "rest", "removed"),
    [
        ("", 0, "", 0),
        (ROW % 1 + ROW % 3 + ROW % 3, 3, ROW % 1 + ROW % 3 + ROW % 3, 0),
        (ROW % 1 + ROW % 4 + ROW % 5, 3, ROW % 1, 2),
        (ROW % 1 + ROW % 4 + ROW % 2, 3, ROW % 1 + ROW % 2, 1),  # processes out of order
        (ROW % 1, 0, "", 1),
        (ROW % 1 + (ROW % 2)[:-1], 3, ROW % 1, 1),  # whole but for the end of its line
        (ROW % 1 + (ROW % 2)[:9], 3, ROW % 1, 1),
        ((ROW % 1)[:9] + ROW % 2 + ROW % 3, 3, ROW % 3, 1),  # what followed a torn line
        ('[]\n{"step": true}\n{"step": "1"}\n\n' + ROW % 1, 3, ROW % 1, 4),
    ],
)
def test_a_run_that_goes_on_cuts_its_alarms_back_to_whole_lines_before_it(
    monitor, tmp_path, text, step, rest, removed
):
    path = tmp_path / "alarms.jsonl"
    path.write_text(text, "utf-8")
    assert monitor.truncate_log(step) == removed
    assert path.read_text("utf-8") == rest
    assert [entry.name for entry in tmp_path.iterdir()] == ["alarms.jsonl"]
    assert monitor.truncate_log(step) == 0


def test_alarms_cut_in_the_middle_of_a_letter_go(monitor, tmp_path):
    path = tmp_path / "alarms.jsonl"
    whole = ROW % 1
    path.write_bytes((whole + whole).encode()[: len(whole.encode()) + 35])
    assert monitor.truncate_log(1) == 1
    assert path.read_text("utf-8") == whole


def test_without_alarms_there_is_nothing_to_cut(monitor, tmp_path):
    assert monitor.truncate_log(0) == 0
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "alarms.jsonl").mkdir()
    with pytest.raises(ValueError, match=r"alarms.jsonl: it is not a regular file"):
        monitor.truncate_log(0)
