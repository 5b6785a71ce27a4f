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
    watch, tmp_path, text, step, rest, removed
):
    path = tmp_path / "alarms.jsonl"
    path.write_text(text, "utf-8")
    assert watch.cut_back(step) == removed
    assert path.read_text("utf-8") == rest
    assert [entry.name for entry in tmp_path.iterdir()] == ["alarms.jsonl"]
    assert watch.cut_back(step) == 0


def test_alarms_cut_in_the_middle_of_a_letter_go(watch, tmp_path):
    path = tmp_path / "alarms.jsonl"
    whole = ROW % 1
    path.write_bytes((whole + whole).encode()[: len(whole.encode()) + 35])
    assert watch.cut_back(1) == 1
    assert path.read_text("utf-8") == whole


def test_without_alarms_there_is_nothing_to_cut(watch, tmp_path):
    assert watch.cut_back(0) == 0
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "alarms.jsonl").mkdir()
    with pytest.raises(ValueError, match=r"alarms.jsonl: it is not a regular file"):
        watch.cut_back(0)
