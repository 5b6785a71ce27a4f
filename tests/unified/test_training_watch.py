"""Alarms: what is no number, what leaps, what grows; what was before, and what ends a run."""

import json

import pytest

from unified.training.config import Alarms
from unified.training.watch import Watch

KEYS = [f"s/{number}" for number in range(100)]


def calm(watch, steps, loss=2.0, norm=1.0, warm=True, first=1):
    for step in range(first, first + steps):
        assert watch.look(step, {"text": loss, "image": 3 * loss}, 1.0, norm, KEYS, warm) == []


@pytest.fixture
def watch(tmp_path):
    return Watch(Alarms(spike=1.5, output_norm=3.0, stop=("nan", "output_norm")), tmp_path)


@pytest.mark.parametrize("figures", [
    ({"text": float("nan")}, 1.0, 1.0), ({"text": 2.0}, float("inf"), 1.0),
    ({"text": 2.0}, 1.0, float("nan")),
])  # fmt: skip
def test_what_is_no_number_is_an_alarm_at_once(watch, tmp_path, figures):
    losses, gradient, norm = figures
    (alarm,) = watch.look(1, losses, gradient, norm, KEYS, False)
    assert (alarm.kind, alarm.stop, alarm.step) == ("nan", True, 1)
    assert alarm.keys == tuple(KEYS[:64])
    assert "this step changed nothing; samples s/0, s/1, s/2, ..." in str(alarm)

    def strict(name):
        raise AssertionError(f"{name} is not JSON")

    (line,) = (tmp_path / "alarms.jsonl").read_text("utf-8").splitlines()
    row = json.loads(line, parse_constant=strict)
    assert (row["found"], row["limit"]) in (("nan", None), ("inf", None))
    json.dumps(watch.state(), allow_nan=False)


def test_a_loss_that_leaps_is_an_alarm_of_its_modality(watch):
    assert watch.look(1, {"text": 9.0}, 1.0, 1.0, KEYS, True) == []  # nothing to compare it with
    calm(watch, 9, first=2)
    assert watch.look(11, {"text": 2.9, "image": 8.9}, 1.0, 1.0, KEYS, True) == []
    (alarm,) = watch.look(12, {"text": 2.0, "image": 9.1}, 1.0, 1.0, KEYS, True)
    assert (alarm.kind, alarm.what, alarm.limit) == ("spike", "the image loss", 9.0)
    assert not alarm.stop
    assert "the image loss is 9.100, above 9.000" in str(alarm)
    # One leap does not change what is usual; a new level in time does.
    assert watch.look(13, {"image": 9.1}, 1.0, 1.0, KEYS, True)
    for step in range(14, 64):
        watch.look(step, {"image": 9.1}, 1.0, 1.0, KEYS, True)
    assert watch.look(65, {"image": 9.1}, 1.0, 1.0, KEYS, True) == []


def test_an_output_norm_that_grows_is_an_alarm_once_there_is_a_measure(watch):
    calm(watch, 30, norm=50.0, warm=False)  # during warm-up it may be anything
    calm(watch, 60, norm=2.0, first=31)
    assert watch.look(91, {"text": 2.0}, 1.0, 5.9, KEYS, True) == []
    (alarm,) = watch.look(92, {"text": 2.0}, 1.0, 6.1, KEYS, True)
    assert (alarm.kind, alarm.limit, alarm.stop) == ("output_norm", 6.0, True)
    # The measure is that of the first steps: slow growth is noticed, too.
    for step in range(93, 200):
        watch.look(step, {"text": 2.0}, 1.0, 5.0, KEYS, True)
    assert watch.look(200, {"text": 2.0}, 1.0, 6.1, KEYS, True)


def test_a_watch_goes_on_where_it_was(watch, tmp_path):
    calm(watch, 12)
    other = Watch(watch.settings, tmp_path / "other", 1)
    other.load_state(json.loads(json.dumps(watch.state())))
    assert other.state() == watch.state()
    other.folder.mkdir()
    (alarm,) = other.look(13, {"text": 3.1}, 1.0, 1.0, KEYS, True)
    assert alarm.kind == "spike"
    (row,) = (other.folder / "alarms.jsonl").read_text("utf-8").splitlines()
    assert json.loads(row)["process"] == 1
