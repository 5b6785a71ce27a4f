"""Mixtures of experts: their routers are balanced as the models' own training does it."""

import copy
from dataclasses import replace

import pytest
import torch
import transformers
from safetensors.torch import load_file

from unified import TextTokenizer, UnifiedModel
from unified.dataloading import Source, validation_sequences
from unified.training.loss_factors import modality_factors
from unified.training.micro_batch import blank_micro_batch, make_micro_batch
from unified.training.routing import Routing, inside_documents
from unified.training.train import train
from unified.training.train_module import TrainModule
from unified_data.document import Document, Slot, Text

SIZES = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 24, "head_dim": 8, "max_position_embeddings": 256, "pad_token_id": None,
    "bos_token_id": None, "eos_token_id": None, "num_experts_per_tok": 2,
}  # fmt: skip
KINDS = {
    "Mixtral": {"num_local_experts": 5},
    # The first layer has no experts.
    "Qwen3Moe": {"num_experts": 4, "moe_intermediate_size": 12, "mlp_only_layers": [0]},
}


@pytest.fixture(autouse=True, scope="module")
def threads():
    """A training sets the number of threads of the process."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def decoder_of(kind, vocabulary, **more):
    torch.manual_seed(4)
    config = getattr(transformers, f"{kind}Config")(
        **{**SIZES, **KINDS[kind], **more, "vocab_size": vocabulary}
    )
    decoder = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    for parameter in decoder.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    return decoder.train()


@pytest.fixture(scope="module")
def case(tiny_sequencer, write_codes, random_documents, tmp_path_factory):
    """(rows of 100 positions, not all of them full, size of the vocabulary)."""
    folder = write_codes(tmp_path_factory.mktemp("codes"), {"a": random_documents(14, seed=2)})
    rows = list(validation_sequences(Source(str(folder)), tiny_sequencer, 100))[:3]
    assert any(row.num_ids < 100 for row in rows)
    return rows, tiny_sequencer.vocabulary.size


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_has_the_part_that_the_models_own_loss_has(kind, case):
    """Of documents alone, by transformers, which leaves out what its mask calls padding."""
    rows, vocabulary = case
    decoder = decoder_of(kind, vocabulary, router_aux_loss_coef=0.7)
    alone = copy.deepcopy(decoder)
    alone.set_attn_implementation("eager")
    micro_batch = make_micro_batch(rows, modality_factors({}))
    whole, plain = TrainModule(decoder, None), TrainModule(decoder, None, router_loss=0.0)
    assert plain.routing is None
    added = whole(micro_batch).total - plain(micro_batch).total
    mask = inside_documents(micro_batch.document_spans, 300).view(3, 100)
    assert mask.sum() == sum(row.num_ids for row in rows)
    logits = []
    for start, stop in micro_batch.document_spans.tolist():
        if start < stop:
            ids = micro_batch.input_ids.view(1, -1)[:, start:stop]
            logits.append(alone(ids, output_router_logits=True).router_logits)
    layers = tuple(torch.cat(of_layer) for of_layer in zip(*logits))
    experts = layers[0].shape[1]
    expected = transformers.models.mixtral.modeling_mixtral.load_balancing_loss_func(
        layers, experts, 2
    )
    torch.testing.assert_close(added, 0.7 * expected * micro_batch.weight, rtol=1e-4, atol=1e-4)
    balance = whole.figures()["train/expert_balance"]
    torch.testing.assert_close(balance, expected / 2)
    whole.eval()
    assert torch.equal(whole(micro_batch).total, plain(micro_batch).total)


def test_padding_alone_counts_nothing(case):
    module = TrainModule(decoder_of("Mixtral", case[1]), None)
    outcome = module(blank_micro_batch(50))
    outcome.total.backward()
    assert outcome.total == 0
    assert all((p.grad == 0).all() for p in module.parameters())


def test_a_router_that_prefers_one_expert_learns_to_use_all(case):
    rows, vocabulary = case
    micro_batch = make_micro_batch(rows, modality_factors({}))
    balances = {}
    for weight in (0.0, 2.0):
        torch.manual_seed(0)
        module = TrainModule(decoder_of("Mixtral", vocabulary), None, router_loss=weight or 1e-9)
        gates = [m for name, m in module.named_modules() if name.endswith("gate")]
        with torch.no_grad():
            for gate in gates:
                gate.weight[0] += 0.3 * gate.weight.abs().mean()
                gate.weight[1:] *= 0.2
        optimizer = torch.optim.Adam([gate.weight for gate in gates], lr=0.02)
        for _ in range(25):
            optimizer.zero_grad()
            (module(micro_batch).total / micro_batch.weight).backward()
            optimizer.step()
        balances[weight] = float(module.figures()["train/expert_balance"])
    assert 1 <= balances[2.0] < 1.1
    assert balances[2.0] < balances[0.0]


def test_what_has_no_routers_is_refused_a_weight_for_them(case):
    llama = transformers.AutoModelForCausalLM.from_config(
        transformers.LlamaConfig(**{**SIZES, "vocab_size": case[1]})
    )
    assert TrainModule(llama, None).routing is None
    with pytest.raises(ValueError, match="LlamaForCausalLM is no mixture of experts"):
        TrainModule(llama, None, router_loss=0.1)
    with pytest.raises(ValueError, match="compile: false, or with router_loss: 0"):
        Routing(0.1, 3, 2).balance(None, torch.ones(4, dtype=torch.bool))


@pytest.mark.parametrize("kind", KINDS)
def test_an_extended_mixture_trains_opens_and_draws(
    kind, training_case, tiny_tokenizers, tmp_path, capsys
):
    text = TextTokenizer.train(["a cat and a dog", "the dog is red"], 265)
    decoder_of(kind, text.size).save_pretrained(tmp_path / "llm")
    text.save(tmp_path / "llm")
    image, audio = tiny_tokenizers
    model = UnifiedModel.extend(
        tmp_path / "llm", image_tokenizer=image, audio_tokenizer=audio, max_grid=8
    )
    model.save_pretrained(tmp_path / "extended")
    config = replace(
        training_case, init_from=str(tmp_path / "extended"), model=None, image_tokenizer=None,
        audio_tokenizer=None, output=str(tmp_path / "run"), steps=2, validation={},
        sources={"draw": training_case.sources["draw"]}, router_loss=0.3,
    )  # fmt: skip
    folder = train(config)
    assert "expert balance " in capsys.readouterr().err
    before, after = (load_file(f / "model.safetensors") for f in (tmp_path / "extended", folder))
    routers = [name for name in after if name.endswith("gate.weight")]
    assert len(routers) == {"Mixtral": 2, "Qwen3Moe": 1}[kind]
    assert not any(torch.equal(before[name].float(), after[name].float()) for name in routers)
    trained = UnifiedModel.from_pretrained(folder)
    assert trained.hf.config.router_aux_loss_coef == model.hf.config.router_aux_loss_coef
    (document,) = trained.generate(Document((Text("a cat"), Slot("image", 24, 48))))
    assert document.segments[1].pixels.shape == (24, 48, 3)
