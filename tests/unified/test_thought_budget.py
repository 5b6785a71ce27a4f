"""A thought has a budget of ids, and the answer follows behind it."""

from dataclasses import replace

import numpy as np

from unified.engine.events import TextCut
from unified_data.document import Document, Image, Slot

PICTURE = np.random.default_rng(2).integers(0, 255, (12, 24, 3), dtype=np.uint8)


def test_a_thought_ends_at_its_budget_and_the_answer_follows(streaming_model):
    model, task = streaming_model, streaming_model.tasks.task("describe")
    before = model.tasks
    model.tasks = before.with_entries({"describe": replace(task, thought_ends=("two", "cats"))})
    asked = model.request("describe", image=PICTURE, max_text_ids=19, max_thought_ids=4)
    model.tasks = before
    events = list(model.stream([asked.document], asked.sampling, [0]))
    cuts = [event.reason for event in events if isinstance(event, TextCut)]
    assert cuts[0] == "max_thought_ids"
    written = events[-1].document.segments[-1].text
    thought = model.sequencer.text_tokenizer.encode(written.partition("two")[0])
    assert 0 < len(thought) <= 4 or "\ufffd" in written
    assert asked.response(events[-1].document).thought == written.partition("two")[0].strip()
    slots = Document((Slot("text"), Slot("image", 24, 24)))
    (first, second) = model.sample(slots, max_thought_ids=2, n=1)[0].segments
    assert len(model.sequencer.text_tokenizer.encode(first.text)) <= 6
    assert isinstance(second, Image)
