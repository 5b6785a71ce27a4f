"""T5, mT5 and Flan-T5 layouts: extended, asked, trained, saved; answers are transformers' own."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers as tr
from safetensors.torch import load_file, save_file

from tests.helpers.grafted import picture, picture_shards
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from unified.__main__ import run
from unified.dataloading import Source
from unified.engine.engine import Engine
from unified.engine.request import CodedSlot, Finished, Request, Sampling
from unified.engine.sampler import Guidance, SpanSampling
from unified.formats.coded import CodedText
from unified.models.model import UnifiedModel
from unified.training.config import OptimizerConfig, TrainConfig
from unified.training.micro_batch import make_micro_batch
from unified.training.text_to_text_positions import encoded_and_decoded
from unified.training.train import train
from unified.training.train_module import TrainModule
from unified.vocabulary.text_tokenizer import TextTokenizer
from unified_base.training.settings import ScheduleConfig
from unified_data.document import Document, Slot, Text

GREEDY = Sampling(text=SpanSampling(0.0, draft_tokens=0), max_text_ids=6)
LAYOUTS = {
    "t5": (tr.T5Config, tr.T5ForConditionalGeneration, {}),
    "flan-t5": (
        tr.T5Config, tr.T5ForConditionalGeneration,
        {"tie_word_embeddings": False, "feed_forward_proj": "gated-gelu"},
    ),
    "mt5": (
        tr.MT5Config, tr.MT5ForConditionalGeneration,
        {"tie_word_embeddings": False, "feed_forward_proj": "gated-gelu"},
    ),
}  # fmt: skip


def text_tokenizer() -> TextTokenizer:
    """Of T5's kind: pieces with their spaces, words cut apart twice, <pad> </s> <unk> first."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces += [(f"\u2581{word}", -2.0) for word in ("a", "cat", "blue", "what", "is", "this")]
    pieces += [
        (letter, -5.0) for letter in "\u2581abcdefghijklmnopqrstuvwxyzDTABFISW.?:,x0123456789'-"
    ]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2))
    tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>"])
    cuts = [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(cuts)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>"}
    return TextTokenizer(tokenizer, {"tokenizer_config.json": json.dumps(config).encode()})


def checkpoint(layout, folder):
    """A checkpoint with random weights, as it is published: heads of their own among them."""
    text = text_tokenizer()
    config, kind, options = LAYOUTS[layout]
    torch.manual_seed(5)
    model = kind(config(
        vocab_size=text.size + 3, d_model=16, d_kv=6, d_ff=20, num_layers=2, num_decoder_layers=3,
        num_heads=3, decoder_start_token_id=0, dropout_rate=0.0, **options,
    ))  # fmt: skip
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    model.save_pretrained(folder)
    if options:
        state = load_file(folder / "model.safetensors")
        state["lm_head.weight"] = torch.randn(text.size + 3, 16)
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    text.save(folder)
    return folder


@pytest.fixture(scope="module", params=LAYOUTS)
def folders(request, tmp_path_factory, tiny_tokenizers):
    """The checkpoint, and that extended with pictures and saved."""
    base = tmp_path_factory.mktemp("t5")
    checkpoint(request.param, base / "llm")
    model = UnifiedModel.extend(
        base / "llm", format="chat", image_tokenizer=tiny_tokenizers[0], max_grid=5
    )
    model.save_pretrained(base / "model", dtype=None)
    return base


@pytest.fixture(scope="module")
def model(folders):
    return UnifiedModel.from_pretrained(folders / "model")


def ids_of(model, text, n=1, **options):
    """Ids of greedy answers to a text, by the engine."""
    engine = Engine(model.decoder(), model.grammar, model.text_tokenizer, **options)
    ids = tuple(model.vocabulary.to_ids("text", model.text_tokenizer.encode(text)).tolist())
    request = Request((CodedText(ids, "prompt"), CodedSlot("text", role="response")), 0)
    ended = [e for e in engine.run([request] * n, GREEDY) if isinstance(e, Finished)]
    return ids, [e.ids.tolist() for e in ended]


def test_greedy_answers_are_those_of_transformers_generate(folders, model):
    theirs = tr.AutoModelForSeq2SeqLM.from_pretrained(folders / "llm").eval()
    tied = theirs.lm_head.weight is theirs.shared.weight
    assert (model.hf.lm_head.weight is model.hf.shared.weight) == tied
    size = model.vocabulary.text_size
    never = [*model.text_tokenizer.special_ids, *range(size, size + 3)]
    answers = set()
    for text in ("what is this", "a blue cat.", "D"):
        ids, (whole, again) = ids_of(model, text, 2)
        assert whole == again
        expected = theirs.generate(
            torch.tensor([[*ids, 1]]), do_sample=False, max_new_tokens=6, min_new_tokens=2,
            suppress_tokens=[id for id in never if id != 1], use_cache=False,
        )[0].tolist()  # fmt: skip
        answer = whole[len(ids) + 2 :]  # behind <end> and <start>
        assert expected[0] == 0
        length = min(len(expected) - 1, 6)
        assert answer[:length] == expected[1 : 1 + length]
        answers.add(tuple(answer))
    assert len(answers) > 1


def test_logits_of_text_are_the_language_models_bit_for_bit(folders, model):
    theirs = tr.AutoModelForSeq2SeqLM.from_pretrained(folders / "llm").eval()
    ids, answer = torch.tensor([[4, 9, 12, 1]]), torch.tensor([[0, 7, 3]])
    with torch.no_grad():
        ours = model.hf.eval()(input_ids=ids, decoder_input_ids=answer).logits
        expected = theirs(input_ids=ids, decoder_input_ids=answer).logits
    assert torch.equal(ours[..., : expected.shape[-1]], expected)


def test_every_verb_runs_and_pictures_are_read_by_the_encoder(model):
    assert model.decoder().backend == "transformers"
    drawn = model.draw("a blue cat", size=(48, 72))[0]
    assert drawn.shape == (72, 48, 3)
    pixels = picture(1, 48, 72)
    assert isinstance(model.describe(pixels, max_text_ids=5), str)
    assert isinstance(model.ask(pixels, "what is this?", max_text_ids=5), str)
    document = Document((Text("a cat", "prompt"), Slot("text", role="response")))
    guided = replace(GREEDY, text=SpanSampling(0.0, guidance=Guidance(3.0)))
    assert model.generate(document, sampling=guided)


def test_what_was_read_is_cut_copied_and_read_again(model):
    text = "what is this a blue cat"
    (whole,) = ids_of(model, text)[1]
    assert ids_of(model, text, prefill_ids=2)[1] == [whole]
    decoder, every = model.decoder(), ((0, model.vocabulary.size),)
    from unified.engine.backends.both_ways import as_span

    span, cache = as_span([4, 9, 12, 1]), decoder.new_cache(3, 20)
    expected = [decoder.logits(decoder.forward(cache, [0], [[*span, 0, 7]])[-1:], every)]
    expected.append(decoder.logits(decoder.forward(cache, [0], [[5]]), every))
    cache.copy_prefix(0, 1, 2)
    decoder.forward(cache, [1], [[*span[2:], 0, 9]])
    cache.truncate(1, 5)
    cache.copy_prefix(1, 2)
    for slot in (1, 2):
        logits = [decoder.logits(decoder.forward(cache, [slot], [[id]]), every) for id in (7, 5)]
        np.testing.assert_allclose(np.stack(logits), np.stack(expected), atol=1e-4)


def test_a_second_prompt_and_other_backends_are_refused(folders, model):
    document = Document((
        Text("a", "prompt"), Text("cat", "response"), Text("is", "prompt"),
        Slot("text", role="response"),
    ))  # fmt: skip
    with pytest.raises(ValueError, match=r"segment 2 .text. in role prompt is for the encoder"):
        model.generate(document)
    for backend in ("cpu", "torch_static"):
        with pytest.raises(ValueError, match=f"backend {backend} does not compute a m?t5"):
            UnifiedModel.from_pretrained(folders / "model", backend=backend).draw(
                "a", size=(48, 72)
            )
    with pytest.raises(ValueError, match="document 1 of a batch has a part for the encoder behind"):
        encoded_and_decoded([(0, 4), (4, 9)], [(0, 2), (4, 5), (7, 8)])


def test_documents_of_a_row_are_trained_as_pairs_alone(model):
    from tests.unified.test_prefix_attention import packed

    documents = [
        [Text("a blue cat", "prompt", 0.0), Text("is", "response", 1.0)],
        [Text("what is this", "prompt", 0.0), Text("a cat", "response", 1.0)],
    ]
    row = packed(model, documents, 40)
    module = TrainModule(model.hf, None, bidirectional=True).eval()
    outcome = module(make_micro_batch([row], np.ones(8, np.float32)))
    expected = []
    for number, (start, stop) in enumerate(zip(row.starts[:-1].tolist(), row.starts[1:].tolist())):
        _, middle = row.spans[number]
        ids = torch.from_numpy(row.labels[start:stop].astype(np.int64))[None]
        read, written = ids[:, : middle - start], ids[:, middle - start :]
        logits = model.hf(input_ids=read, decoder_input_ids=written).logits[0]
        assert written[0, 0] == 0  # its start
        assert row.loss_weights[middle] == 0
        for at in range(middle + 1, stop):
            if weight := float(row.loss_weights[at]):
                allowed = [i for a, b in row.ranges[row.allowed[at]] for i in range(a, b)]
                scores = logits[at - middle - 1]
                loss = torch.logsumexp(scores[allowed], 0) - scores[int(row.labels[at])]
                expected.append(weight * loss)
    torch.testing.assert_close(outcome.total, torch.stack(expected).sum(), rtol=1e-5, atol=1e-5)


def test_the_command_line_extends_one(folders, tmp_path, capsys):
    llm, output = str(folders / "llm"), tmp_path / "extended"
    assert run(["extend", llm, "-o", str(output), "--json"]) == 0
    assert UnifiedModel.from_pretrained(output).grammar.format.bidirectional == ("prompt",)
    command = ["extend", llm, "--bidirectional", "reply", "-o", str(tmp_path / "no")]
    assert run(command) == 2
    assert "bidirectional names 'reply', expected some of" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["full", "new_rows"])
def test_a_run_trains_saves_and_opens_again(folders, tmp_path, what):
    picture_shards(tmp_path / "shards", 3)
    config = TrainConfig(
        output=str(tmp_path / "run"), init_from=str(folders / "model"),
        sources={"pairs": Source(str(tmp_path / "shards"), fit=48)}, steps=1, seq_len=64,
        global_batch_size=2, micro_batch_size=2, streams=2, optimizer=OptimizerConfig(lr=0.02),
        schedule=ScheduleConfig(warmup_steps=1), precision="float32", threads=1, log_every=1,
        save_dtype="float32", device="cpu", train=what,
    )  # fmt: skip
    trained = train(config)
    before, after = (load_file(f / "model.safetensors") for f in (folders / "model", trained))
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed <= ({"shared.weight", "lm_head.weight"} if what == "new_rows" else set(before))
    assert changed
    rows = text_tokenizer().size
    assert torch.equal(before["shared.weight"][:rows], after["shared.weight"][:rows]) == (
        what == "new_rows"
    )
    opened = UnifiedModel.from_pretrained(trained)
    assert isinstance(opened.describe(picture(1, 48, 48), max_text_ids=4), str)
