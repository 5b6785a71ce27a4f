"""One model, many threads: each gets what it gets alone, bit for bit."""

import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from unified.engine.backends.cpu.config import LlamaCpuConfig, default_inv_freq
from unified.engine.backends.cpu.decoder import LlamaCpuDecoder
from unified.engine.backends.cpu.threads import ThreadPool
from unified.engine.backends.transformers import TransformersDecoder
from unified.engine.engine import Engine
from unified.engine.request import CodedSlot, Finished, Request, Sampling
from unified.formats.coded import CodedText
from unified.models.model import UnifiedModel
from unified.vocabulary.text_tokenizer import TextTokenizer

THREADS = 8


@pytest.fixture(autouse=True)
def often():
    """Threads take turns a thousand times as often as they do, so that they meet."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(before)


def at_once(jobs):
    """What each job gives, all of them started together in threads of their own."""
    barrier = threading.Barrier(len(jobs))

    def run(job):
        barrier.wait()
        return job()

    with ThreadPoolExecutor(len(jobs)) as pool:
        return [future.result() for future in [pool.submit(run, job) for job in jobs]]


def decoder(vocabulary=60):
    config = LlamaCpuConfig(
        hidden_size=16, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=6, intermediate_size=20,
        vocab_size=vocabulary, max_position_embeddings=400, norm_eps=1e-6,
        inv_freq=default_inv_freq(1e4, 6), qk_norm=True, tie_word_embeddings=True,
    )  # fmt: skip
    rng = np.random.default_rng(5)
    return LlamaCpuDecoder(
        config,
        {
            name: rng.normal(1.0 if "norm" in name else 0.0, 0.4, shape).astype(np.float32)
            for name, shape in config.shapes().items()
        },
    )


def test_a_fresh_decoder_in_eight_threads_two_hundred_times():
    """Of mixed lengths: the table of rotations grows while others are using it."""
    rng = np.random.default_rng(0)
    lengths = [(5, 8), (390, 400), (40, 41), (90, 300), (33, 64), (200, 210), (1, 2), (64, 120)]
    prompts = [rng.integers(60, size=size).tolist() for size, _ in lengths]

    def feed(model, number):
        cache = model.new_cache(1, lengths[number][1])
        first = (
            model.forward(cache, [0], [prompts[number][:-1]]) if lengths[number][0] > 1 else None
        )
        last = model.forward(cache, [0], [prompts[number][-1:]])
        logits = model.logits(last, ((3, 50),))
        return b"".join(x.tobytes() for x in (first, last, logits) if x is not None)

    alone = [feed(decoder(), number) for number in range(THREADS)]
    wrong = 0
    for _ in range(200):
        model = decoder()
        model._threads = ThreadPool(3)
        jobs = [lambda n=number, m=model: feed(m, n) for number in range(THREADS)]
        wrong += at_once(jobs) != alone
    assert wrong == 0


def test_samplers_of_one_decoder_give_the_ids_that_they_give_alone(small_pocket):
    def requests(seed):
        text = CodedText(tuple(range(1 + seed)), "prompt")
        slots = [CodedSlot("image", (2, 3), role="response"), CodedSlot("audio", role="response"),
                 CodedSlot("text", role="response")]  # fmt: skip
        sampling = Sampling(max_ids=60 + 25 * seed, max_audio_frames=4 + seed)
        return [Request((text, slot), seed, sampling) for slot in slots]

    def sample(sampler, seed):
        events = sampler.run(requests(seed), Sampling())
        done = sorted((e for e in events if isinstance(e, Finished)), key=lambda e: e.row)
        return [e.ids.tolist() for e in done]

    size = small_pocket.vocabulary.size
    alone = [sample(Engine(decoder(size), small_pocket), seed) for seed in range(THREADS)]
    for _ in range(3):
        shared = Engine(decoder(size), small_pocket)
        assert at_once([lambda s=s, own=shared: sample(own, s) for s in range(THREADS)]) == alone


def test_more_threads_than_cores_in_a_threads():
    rng = np.random.default_rng(1)
    rows = [rng.integers(60, size=30 + n).tolist() for n in range(THREADS)]
    alone = [
        m.forward(m.new_cache(1, 80), [0], [row]).tobytes() for m in [decoder()] for row in rows
    ]
    model = decoder()
    model._threads = ThreadPool(12)

    def feed(row):
        return [model.forward(model.new_cache(1, 80), [0], [row]).tobytes() for _ in range(20)]

    results = at_once([lambda row=row: feed(row) for row in rows])
    assert results == [[result] * 20 for result in alone]


def test_there_is_one_pool_whoever_asks_first(monkeypatch):
    monkeypatch.setattr(ThreadPool, "_shared", None)
    assert len({id(pool) for pool in at_once([ThreadPool.shared] * THREADS)}) == 1
    pool = ThreadPool(3)
    before = threading.active_count()
    at_once([pool._start] * THREADS)
    assert threading.active_count() == before + 2


def test_what_a_helper_comes_too_late_for_is_not_held():
    """The arguments of a job go with it, also while its helpers are busy elsewhere."""
    pool = ThreadPool(2)
    release, begun = threading.Event(), threading.Event()

    def wait():
        if threading.current_thread() is threading.main_thread():
            assert begun.wait(60)
        else:
            begun.set()
            release.wait()

    pool.run(wait)

    class Big:
        gone = False

        def __del__(self):
            Big.gone = True

    pool.run(lambda big: None, Big())
    assert Big.gone
    release.set()


def llama(**options):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=16, **options,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


DYNAMIC = {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}}


@pytest.mark.parametrize("options", [{}, DYNAMIC], ids=["plain", "dynamic"])
def test_rows_of_a_model_of_transformers_do_not_see_each_other(options):
    """One after the other and in threads with decoders of their own the same bits; in one batch
    up to rounding."""
    hf = llama(**options)
    limit = 64 if options else 16
    lengths = [30, 16, 5, 22] if options else [14, 9, 5, 12]
    rows = [[(7 * n + at) % 40 for at in range(size)] for n, size in enumerate(lengths)]

    def feed(model, row):
        model.max_positions = limit
        cache = model.new_cache(1, limit)
        states = [model.forward(cache, [0], [row[:-2]])]
        states += [model.forward(cache, [0], [[id]]) for id in row[-2:]]
        return b"".join(x.numpy().tobytes() for x in states)

    alone = [feed(TransformersDecoder(llama(**options)), row) for row in rows]
    decoder_of_all = TransformersDecoder(hf)
    assert [feed(decoder_of_all, row) for row in rows] == alone
    for _ in range(5):
        assert (
            at_once([lambda r=row: feed(TransformersDecoder(hf), r) for row in rows * 2])
            == alone * 2
        )
    together = decoder_of_all.forward(
        decoder_of_all.new_cache(len(rows), 16), range(len(rows)), [row[:5] for row in rows]
    )
    single = [
        decoder_of_all.forward(decoder_of_all.new_cache(1, 16), [0], [row[:5]]) for row in rows
    ]
    np.testing.assert_allclose(together, np.concatenate(single), atol=1e-5)


def test_media_tokenizers_in_eight_threads(tiny_tokenizers):
    import torch

    from unified_tokenizers.streaming import DecodeStream

    image, audio = tiny_tokenizers
    rng = np.random.default_rng(2)
    pictures = [torch.from_numpy(rng.random((1, 3, 48, 24 * n), np.float32)) for n in range(1, 9)]
    sounds = [torch.from_numpy(rng.random((1, 1, 3200 * n + n), np.float32)) for n in range(1, 9)]

    def code(number):
        with torch.inference_mode():
            codes, heard = image.encode(pictures[number]), audio.encode(sounds[number])
            stream = DecodeStream(audio)
            parts = [stream.push(heard.codes[:, :, at : at + 1]) for at in range(number + 1)]
            outputs = [codes.codes, image.decode(codes), heard.codes, audio.decode(heard), *parts]
        return [x.numpy().tobytes() for x in outputs]

    alone = [code(number) for number in range(THREADS)]
    for _ in range(5):
        assert at_once([lambda n=n: code(n) for n in range(THREADS)]) == alone


def test_a_fresh_text_tokenizer_in_eight_threads():
    texts = [f"{'a cat, ' * n}{n} dogs \U0001f600" for n in range(THREADS)]
    first = TextTokenizer.train(texts, 300)
    expected = [(first.encode(text), first.fingerprint, first.special_ids) for text in texts]
    for _ in range(10):
        fresh = TextTokenizer.from_text(first.to_text())

        def read(text, tokenizer=fresh):
            ids = tokenizer.encode(text)
            assert tokenizer.decode(ids) == text
            return ids, tokenizer.fingerprint, tokenizer.special_ids

        assert at_once([lambda t=text: read(t) for text in texts]) == expected


def test_every_verb_of_a_freshly_opened_model_in_eight_threads(cli_model):
    rng = np.random.default_rng(4)
    picture = rng.integers(256, size=(96, 96, 3), dtype=np.uint8)
    sound = rng.uniform(-0.3, 0.3, 8000).astype(np.float32)

    def jobs(model):
        rate = model.audio_tokenizer.sample_rate
        return [
            lambda: model.draw("a cat", 2, seed=1)[1].tobytes(),
            lambda: model.draw("a dog", seed=2)[0].tobytes(),
            lambda: model.describe(picture, seed=3),
            lambda: model.describe(picture, "what is it?", seed=4),
            lambda: model.speak("hello there", seed=5)[0].tobytes(),
            lambda: model.listen(sound, rate, seed=6),
            lambda: model.speak("a much longer text to be read", "amy", seed=7)[0].tobytes(),
            lambda: model.text_tokenizer.encode("a cat"),
        ]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        alone = [job() for job in jobs(UnifiedModel.from_pretrained(cli_model))]
        for _ in range(3):
            assert at_once(jobs(UnifiedModel.from_pretrained(cli_model))) == alone


def test_the_decoder_of_transformers_is_loaded_once(cli_model):
    model = UnifiedModel.from_pretrained(cli_model)
    objects = at_once([lambda: model.hf] * THREADS)
    assert len({id(hf) for hf in objects}) == 1


def test_pictures_of_the_shipped_model_in_eight_threads():
    subjects = ["a cat", "two dogs", "a fox", "a red apple", "an owl", "a tiger", "a pear", "a cow"]
    first = UnifiedModel.from_pretrained("pocket")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        alone = [first.draw(text)[0].tobytes() for text in subjects]
        for _ in range(2):
            fresh = UnifiedModel.from_pretrained("pocket")
            jobs = [lambda t=text, m=fresh: m.draw(t)[0].tobytes() for text in subjects]
            assert at_once(jobs) == alone
