"""Modules in the layers that look back at media: sampled in batches as a whole forward would."""

import copy

import numpy as np
import pytest
import torch

from tests.helpers.grafted import clip_folder, picture, text_tokenizer, tiny_llm
from unified.engine.backends.pass_media import SeenMedium, media_of, pass_media
from unified.engine.request import Sampling
from unified.engine.sampler import Guidance, SpanSampling
from unified.models.grafting.graft import Graft
from unified.models.grafting.graft_files import LOOKING_BACK
from unified.models.grafting.layer_grafts import layer_graft_of
from unified.models.info import describe_model
from unified.models.model import UnifiedModel
from unified.training.embedded_batch import EmbeddedGroup, Vectorizer
from unified_data.document import Document, Image, Slot, Text

GREEDY = Sampling(text=SpanSampling(0.0, draft_tokens=0), max_text_ids=6)
LAYERS = {
    "gated-cross-attention": {"every": 2, "heads": 3},
    "modality-adapters": {"rank": 4},
}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return clip_folder(tmp_path_factory.mktemp("layers") / "clip")


@pytest.fixture(scope="module", params=LAYERS)
def model(clip, request, tmp_path_factory):
    """A model whose modules in the layers count, saved and opened again."""
    text = text_tokenizer()
    extended = UnifiedModel.extend(
        tiny_llm(text), text_tokenizer=text, see=Graft(clip, "mlp"), layers=request.param,
        layer_options=LAYERS[request.param],
    )  # fmt: skip
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in layer_graft_of(extended.hf).parameters():
            if parameter.dim() > 1 or parameter.numel() == 1:  # no biases, which make all alike
                parameter.add_(torch.randn(parameter.shape))
    folder = tmp_path_factory.mktemp("layers") / "model"
    extended.save_pretrained(folder)
    return UnifiedModel.from_pretrained(folder)


def document(*prompt):
    return Document((*(Image(p, "prompt") if isinstance(p, np.ndarray) else Text(p, "prompt")
                       for p in prompt), Slot("text", role="response")))  # fmt: skip


DOCUMENTS = [
    document(picture(1)), document("what is it?"), document("a cat", picture(2), "eats"),
    document(picture(3), "a red panda", picture(1)), document("what is it?", picture(2)),
]  # fmt: skip


def by_whole_forwards(model, asked):
    """The greedy answer to a document, every id by a forward over all before it, uncached."""
    coded = model.sequencer.code(asked)[:-1]
    end = model.vocabulary.marker("<eos>")
    ids = [*model.grammar.serialize(coded).ids[:-1], model.vocabulary.marker("<response>")]
    prompt, size = len(ids), model.vocabulary.text_size
    id = model.vocabulary.levels("image")[0].id(0)
    at = [p for p, own in enumerate(ids) if own == id]
    vectors = [torch.from_numpy(s.features) for s in coded if s.kind == "image"]
    if model.embedders["image"].attended:
        assert len(at) == len(vectors)  # one place each
        seen = [SeenMedium(*pair) for pair in zip(at, vectors)]
    else:
        seen = [SeenMedium(p) for p in at[::16]]
    while len(ids) < prompt + 6:
        embedded = model.hf.get_input_embeddings()(torch.tensor([ids])).detach().clone()
        if vectors and not model.embedders["image"].attended:
            embedded[0, at] = torch.cat(vectors)
        latest = torch.tensor([[sum(m.at <= p for m in seen) - 1 for p in range(len(ids))]])
        with torch.no_grad(), pass_media(model.hf, media=seen, latest=latest):
            logits = model.hf(inputs_embeds=embedded, use_cache=False).logits[0, -1]
        best = int(logits[:size].argmax())
        if len(ids) > prompt and logits[end] > logits[best]:
            break
        ids.append(best)
    return model.text_tokenizer.decode(ids[prompt:])


def test_batches_with_and_without_pictures_are_those_of_whole_forwards(model):
    assert model.decoder().backend == "transformers"
    texts = {}
    for event in model.stream(DOCUMENTS, GREEDY, [0] * len(DOCUMENTS)):
        if hasattr(event, "document"):
            texts[event.row] = event.document.segments[-1].text
    for row, asked in enumerate(DOCUMENTS):
        assert texts[row] == by_whole_forwards(model, asked)
    assert texts[1] != texts[4]  # what was seen counts
    (again,) = model.generate(DOCUMENTS[2], sampling=GREEDY)
    assert again.segments[-1].text == texts[2]


def test_what_begins_alike_is_read_once_and_still_sees_its_picture(model):
    model.limit_engine()
    model.generate(document(picture(2), "a cat"), sampling=GREEDY)
    before = model.engine.counters.prefix_ids
    (second,) = model.generate(document(picture(2), "a red panda"), sampling=GREEDY)
    assert model.engine.counters.prefix_ids - before >= 4
    model.limit_engine()
    (fresh,) = model.generate(document(picture(2), "a red panda"), sampling=GREEDY)
    assert second.segments[-1] == fresh.segments[-1]
    before = model.engine.counters.prefix_ids
    model.generate(document(picture(4), "a red panda"), sampling=GREEDY)
    assert model.engine.counters.prefix_ids - before <= 3  # another picture is another beginning


def test_a_branch_of_guidance_has_seen_nothing(model):
    guided = Sampling(text=SpanSampling(0.0, guidance=Guidance(4.0)), max_text_ids=6)
    answers = [model.generate(DOCUMENTS[0], sampling=s)[0] for s in (guided, GREEDY)]
    assert answers[0] != answers[1]


def test_other_backends_refuse_by_name(model):
    name = layer_graft_of(model.hf).name
    told = describe_model("model", model.directory)["backends"]
    assert name in LOOKING_BACK
    assert set(told.values()) == {"transformers"}
    for backend in ("cpu", "torch_static"):
        with pytest.raises(ValueError, match=f"{name} in its layers, which backend {backend} does"):
            UnifiedModel.from_pretrained(model.directory, backend=backend).describe(picture())


def test_a_copy_of_a_model_has_passes_of_its_own(model):
    vectors = torch.zeros(2, 24, requires_grad=True) * 2
    with pass_media(model.hf, media=[SeenMedium(0, vectors)], latest=torch.zeros(1, 3).long()):
        twin = copy.deepcopy(model.hf)
        own, theirs = (hf.model.layers[0].media for hf in (model.hf, twin))
        assert own.media
        assert not theirs.media
        assert theirs is media_of(twin)


def test_a_row_of_several_documents_sees_in_each_its_own():
    at = torch.tensor([[2], [9]])
    group = EmbeddedGroup("image", torch.zeros(2, 3, dtype=torch.float16), at)
    vectors = Vectorizer({})
    position_ids = torch.cat([torch.arange(5), torch.arange(3), torch.arange(4)])[None]
    media, latest = vectors.seen((group,), position_ids)
    assert [medium.at for medium in media] == [2, 9]
    assert latest.tolist() == [[-1, -1, 0, 0, 0, -1, -1, -1, -1, 1, 1, 1]]


def test_layers_that_attend_need_something_to_attend_to(clip):
    text = text_tokenizer()
    with pytest.raises(ValueError, match="attends to what an encoder reads; give see or hear"):
        UnifiedModel.extend(tiny_llm(text), text_tokenizer=text, layers="gated-cross-attention")
