"""Documents of each kind, what a stream tells of them, and jobs that run at once."""

import threading
from concurrent.futures import ThreadPoolExecutor

from unified import Sampling, SpanSampling
from unified.engine.events import AudioChunk, Done, TextPiece
from unified_data.document import Document, Slot, Text

# Without guesses: a pass is one id, so that what is left after an event can be counted.
WARM = SpanSampling(1.0, draft_tokens=0)
FREE = Sampling(WARM, WARM, WARM, max_ids=200, max_audio_frames=9)
DRAWN = Document((Text("a cat", "prompt"), Slot("image", 96, 72, role="response")))
SPOKEN = Document((Text("a cat", "prompt"), Slot("audio", role="response")))
TOLD = Document((Text("a dog", "prompt"), Slot("text", role="response")))
MIXED = Document((Text("two cats", "prompt"), Slot("any", num_images=2, role="response")))
CASES = [(document, seed) for seed in (1, 2) for document in (DRAWN, SPOKEN, TOLD, MIXED)]


def content(events):
    """All that is told of one document, but its pieces of text and its timings."""
    (done,) = [event for event in events if isinstance(event, Done)]
    kinds = [type(event).__name__ for event in events]
    sound = [event.waveform for event in events if isinstance(event, AudioChunk)]
    text = "".join(event.text for event in events if isinstance(event, TextPiece))
    return kinds, text, done.ids.tolist(), done.document, b"".join(part.tobytes() for part in sound)


def alone(model, document, seed):
    return content(list(model.stream([document], FREE, [seed])))


def at_once(jobs):
    barrier = threading.Barrier(len(jobs))

    def run(job):
        barrier.wait()
        return job()

    with ThreadPoolExecutor(len(jobs)) as pool:
        return [future.result(60) for future in [pool.submit(run, job) for job in jobs]]
