"""Text tokenizers of every kind: a text comes back exactly, or is refused with its reason."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from unified.vocabulary.text_tokenizer import TextTokenizer

TEXTS = ["the panda eats bamboo", "the  red panda\nsleeps", "hello world, hello panda"] * 6
SPACE = "\u2581"
SPECIAL = ["<unk>", "<s>", "</s>"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def pieces(normalizer=None, pre_tokenizer=None, fallback=True) -> Tokenizer:
    """BPE of pieces with U+2581 for a space: the kind of Llama 2, Mistral and Gemma."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=fallback, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", SPACE)
    trainer = trainers.BpeTrainer(
        vocab_size=330 if fallback else 70, show_progress=False,
        special_tokens=[*SPECIAL, *(BYTES if fallback else ())],
    )  # fmt: skip
    tokenizer.train_from_iterator([line for text in TEXTS for line in text.split("\n")], trainer)
    parts = json.loads(tokenizer.to_str())
    parts["added_tokens"] = [a for a in parts["added_tokens"] if a["content"] in SPECIAL]
    tokenizer = Tokenizer.from_str(json.dumps(parts))
    tokenizer.normalizer = normalizer
    if pre_tokenizer is not None:
        tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return tokenizer


def unigram(fallback: bool, *cuts) -> Tokenizer:
    letters = sorted(set("".join(TEXTS)) - {" ", "\n"})
    words = [SPACE, f"{SPACE}the", "panda", f"{SPACE}panda", "hello", f"{SPACE}{SPACE}"]
    vocabulary = [(name, 0.0) for name in SPECIAL]
    vocabulary += [(name, -2.0) for name in words] + [(name, -5.0) for name in letters]
    vocabulary += [(name, -9.0) for name in BYTES] if fallback else []
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=0, byte_fallback=fallback))
    tokenizer.add_special_tokens(SPECIAL)
    cuts = (*cuts, pre_tokenizers.Metaspace(prepend_scheme="always"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(list(cuts))
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    return tokenizer


def byte_level(normalizer=None, prefix=False) -> Tokenizer:
    trained = TextTokenizer.train(TEXTS, 290)._tokenizer
    trained.normalizer = normalizer
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    return trained


def prepended() -> normalizers.Normalizer:
    return normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])


COMPLETE = {
    "llama 2": pieces(prepended()),
    "mistral": pieces(None, pre_tokenizers.Metaspace(prepend_scheme="first", split=False)),
    "always": pieces(None, pre_tokenizers.Metaspace(prepend_scheme="always")),
    "gemma": pieces(
        normalizers.Replace(" ", SPACE), pre_tokenizers.Split(" ", "merged_with_previous")
    ),
    "unigram": unigram(True),
    "nfkc": pieces(normalizers.Sequence([normalizers.NFKC(), prepended()])),
    "bytes nfc": byte_level(normalizers.NFC()),
    "bytes prefix": byte_level(prefix=True),
    "bytes lower": byte_level(normalizers.Lowercase()),
}
KNOWN = {
    "t5": unigram(False, pre_tokenizers.WhitespaceSplit()),
    "unk": pieces(prepended(), None, False),
}

unicode_text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
tricky = st.sampled_from(
    ["<s>", "<0x0A>", "<0x4", SPACE, f" {SPACE}", "  ", " the", "panda", "e\u0301", "\ufb01",
     "\r\n\t ", "\U0001f43c", "\x00", "The", "<unk>", "\u00a0"]
)  # fmt: skip
texts = st.lists(unicode_text | tricky, min_size=1, max_size=4).map("".join)


@pytest.mark.parametrize("kind", COMPLETE)
@settings(deadline=None, max_examples=60)
@given(texts)
def test_any_text_comes_back_whole_and_in_pieces(kind, text):
    tokenizer = TextTokenizer(COMPLETE[kind])
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    stream = tokenizer.stream()
    assert "".join(stream.push([id]) for id in ids) + stream.flush() == text
    assert not set(ids) & set(tokenizer.special_ids)


@pytest.mark.parametrize("kind", KNOWN)
@settings(deadline=None, max_examples=100)
@given(texts | st.sampled_from(["the panda", " hello  the panda ", "eats, bamboo"]))
def test_without_bytes_to_fall_back_to_a_text_comes_back_or_its_character_is_named(kind, text):
    tokenizer = TextTokenizer(KNOWN[kind])
    known = set("".join(TEXTS)) - {"\n"}
    if set(text) <= known:
        assert tokenizer.decode(tokenizer.encode(text)) == text
    else:
        at = min(i for i, character in enumerate(text) if character not in known)
        with pytest.raises(ValueError, match=rf"character {at} of the text is .*no ids: it has no"):
            tokenizer.encode(text)
    assert "characters that it does not know are refused" in tokenizer.notes


def test_the_space_before_a_text_is_the_only_difference_for_plain_texts(tmp_path):
    for kind in ("llama 2", "mistral", "always", "unigram", "bytes prefix"):
        tokenizer = TextTokenizer(COMPLETE[kind])
        assert "no space is put before the first word of a text" in tokenizer.notes
        theirs = COMPLETE[kind].encode("the panda eats", add_special_tokens=False).ids
        assert tokenizer.encode(" the panda eats") == theirs
        assert tokenizer.encode("the panda eats") != theirs
        assert tokenizer.decode(theirs) == " the panda eats"
    for kind in ("gemma", "bytes nfc", "bytes lower"):
        theirs = COMPLETE[kind].encode("the panda eats", add_special_tokens=False).ids
        assert TextTokenizer(COMPLETE[kind]).encode("the panda eats") == theirs


def test_what_is_left_out_is_said():
    def notes(tokenizer):
        return TextTokenizer(tokenizer).notes

    assert notes(COMPLETE["gemma"]) == ()
    assert notes(byte_level()) == ()
    assert notes(COMPLETE["bytes nfc"]) == (
        "texts that its normaliser NFC would change are left as they are",
    )
    assert len(notes(COMPLETE["nfkc"])) == 2
    assert "white space between words is kept as it is" in notes(KNOWN["t5"])
    dropping = pieces(prepended())
    dropping.model.dropout = 0.5
    assert notes(dropping)[0] == "its merges are never dropped at random"
    assert len({tuple(TextTokenizer(dropping).encode("the panda eats")) for _ in range(9)}) == 1


def test_truncation_and_padding_of_a_tokenizer_are_left_out():
    cut = byte_level()
    cut.enable_truncation(3)
    cut.enable_padding(length=9)
    tokenizer = TextTokenizer(cut)
    assert tokenizer.decode(tokenizer.encode("the panda eats bamboo")) == "the panda eats bamboo"
    assert len(tokenizer.encode("a")) == 1


def test_added_runs_of_spaces_are_spaces():
    """Gemma lists them among its added tokens, in the characters of its pieces."""
    backend = pieces(normalizers.Replace(" ", SPACE))
    backend.add_tokens(
        [AddedToken(SPACE * 3, normalized=False), AddedToken("\n\n", normalized=False)]
    )
    backend.add_special_tokens([AddedToken(f"<a{SPACE}b>")])
    tokenizer = TextTokenizer(backend)
    run, lines, special = (backend.token_to_id(t) for t in (SPACE * 3, "\n\n", f"<a{SPACE}b>"))
    assert tokenizer.decode([run, lines, special]) == f"   \n\n<a{SPACE}b>"
    for text in (SPACE * 3, "a   b", "a\n\n b", f"<a{SPACE}b>", "<a b>"):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert special not in ids
    assert lines in tokenizer.encode("a\n\nb")


def test_added_tokens_that_eat_white_space_are_refused_where_they_do():
    backend = byte_level()
    backend.add_tokens([AddedToken("<mask>", lstrip=True)])
    tokenizer = TextTokenizer(backend)
    assert tokenizer.decode(tokenizer.encode("a<mask>b")) == "a<mask>b"
    with pytest.raises(ValueError, match="character 1 of the text is ' '"):
        tokenizer.encode("a <mask>b")


def word_piece():
    tokenizer = Tokenizer(models.WordPiece({"[UNK]": 0, "the": 1, "##s": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def suffixed():
    return Tokenizer(models.BPE({"a</w>": 0, "a": 1}, [], end_of_word_suffix="</w>"))


def cut_by(step):
    tokenizer = byte_level()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([step, pre_tokenizers.ByteLevel()])
    return tokenizer


@pytest.mark.parametrize(
    ("tokenizer", "message"),
    [
        (word_piece(), "a WordPiece model, which drops the white space"),
        (Tokenizer(models.WordLevel({"a": 0})), "a WordLevel model, which drops the white space"),
        (suffixed(), "has end_of_word_suffix '</w>', which stands for white space"),
        (cut_by(pre_tokenizers.Whitespace()), "cuts texts with Whitespace, which drops"),
        (cut_by(pre_tokenizers.Split(Regex(r"\s"), "removed")), "cuts texts with Split"),
        (pieces(None, pre_tokenizers.Metaspace("_")), "writes spaces as '_', expected"),
    ],
    ids=lambda case: case[:20] if isinstance(case, str) else "",
)
def test_kinds_that_lose_white_space_are_refused(tokenizer, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        TextTokenizer(tokenizer)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ValueError, match=rf"tokenizer\.json: .*{message}"):
        TextTokenizer.load(tmp_path)


def test_a_tokenizer_is_saved_as_it_was_read_with_what_stands_beside_it(tmp_path):
    tokenizer = pieces(prepended())
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": "{{ 1 }}"}
    custom = {**settings, "auto_map": {"AutoTokenizer": ["own.Own", None]}}
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(custom))
    (tmp_path / "tokenization_own.py").write_text("raise SystemExit")
    loaded = TextTokenizer.load(tmp_path)
    loaded.save(tmp_path / "again")
    names = sorted(path.name for path in (tmp_path / "again").iterdir())
    assert names == ["tokenizer.json", "tokenizer_config.json"]
    assert json.loads((tmp_path / "again" / "tokenizer_config.json").read_text()) == settings
    again = TextTokenizer.load(tmp_path / "again")
    assert again.fingerprint == loaded.fingerprint
    theirs = AutoTokenizer.from_pretrained(tmp_path / "again")
    plain = tokenizer.encode("the panda", add_special_tokens=False).ids
    assert theirs("the panda", add_special_tokens=False)["input_ids"] == plain


def test_a_tokenizer_without_its_json_is_converted_by_transformers(tmp_path):
    parts = json.loads(byte_level().to_str())["model"]
    (tmp_path / "vocab.json").write_text(json.dumps({**parts["vocab"], "<|endoftext|>": 290}))
    merges = "\n".join(" ".join(merge) for merge in parts["merges"])
    (tmp_path / "merges.txt").write_text(f"#version: 0.2\n{merges}\n")
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer"}')
    converted = TextTokenizer.load(tmp_path)
    assert converted.encode("the panda") == byte_level().encode("the panda").ids
    assert converted.decode(converted.encode("  é\n🐼")) == "  é\n🐼"
    converted.save(tmp_path / "json")
    assert TextTokenizer.load(tmp_path / "json").fingerprint == converted.fingerprint


def test_files_that_cannot_be_converted_are_refused_in_one_line(tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(b"\x00nothing")
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')
    with pytest.raises(ValueError, match=r"has no tokenizer\.json, and its other") as refused:
        TextTokenizer.load(tmp_path)
    assert "\n" not in str(refused.value)
    (tmp_path / "tokenizer.model").unlink()
    (tmp_path / "vocab.txt").write_text("[UNK]\n[CLS]\n[SEP]\n[PAD]\n[MASK]\nthe\n")
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    with pytest.raises(ValueError, match="a WordPiece model, which drops the white space"):
        TextTokenizer.load(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"auto_map":')
    byte_level().save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ValueError, match=r"tokenizer_config\.json is not JSON"):
        TextTokenizer.load(tmp_path)
