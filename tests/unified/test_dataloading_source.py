"""Sources as a run's file states them."""

import pytest
import yaml

from unified.dataloading.source import Source, leaves, shares_of
from unified_base.config import parse_config


def test_a_file_of_sources_is_read_with_its_groups():
    entries = yaml.safe_load("""
        draw: {shards: "w/train-draw-*.tar", share: 2, orders: both, drop_prompt: 0.1, noise: 0.05}
        speech:
          share: 0.5
          sources:
            say: {shards: [a.tar, b], weight: 6, media_loss: 0, round_trip: true, epochs: 3}
            hear: {shards: c.tar, loss: response}
    """)
    sources = parse_config(Source, {"sources": entries}, "run.yaml").sources
    assert sources["draw"] == Source(
        ("w/train-draw-*.tar",), share=2, orders="both", drop_prompt=0.1, noise=0.05
    )
    actual = dict(leaves(sources))
    assert list(actual) == ["draw", "speech/say", "speech/hear"]
    assert actual["speech/say"].shards == ("a.tar", "b")
    assert (actual["speech/say"].epochs, actual["speech/hear"].loss) == (3, "response")
    assert shares_of(sources) == {
        "draw": 2, "speech": 0.5, "speech/say": 1.0, "speech/hear": 1.0
    }  # fmt: skip
    assert Source("one.tar") == Source(("one.tar",))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{shards: x, shares: 2}", "run: unknown entry sources.a.shares; did you mean share"),
        ("{shards: x, share: 0}", "run: sources.a: the share of x is 0.0, expected more than 0"),
        ("{shards: x, share: two}", "sources.a.share is 'two', expected a number"),
        ("{shards: x, weight: -1}", "the weight of x is -1.0, expected 0 or more"),
        ("{shards: x, media_loss: .nan}", "the media_loss of x is nan, expected 0 or more"),
        ("{shards: x, noise: 1.0}", "the noise of x is 1.0, expected at least 0 and less than 1"),
        ("{shards: x, fit: 0}", "the fit of x is 0, expected at least 1 pixel a side"),
        ("{shards: x, fit: crop}", "sources.a.fit is 'crop', expected a whole number"),
        ("{shards: x, drop_prompt: 2}", "the drop_prompt of x is 2.0, expected 0 to 1"),
        ("{shards: x, orders: mixed}", "orders of x is 'mixed', expected as_is, reversed, both"),
        ("{shards: x, loss: prompt}", "loss of x is 'prompt', expected document, response, all"),
        ("{shards: x, round_trip: 1}", "round_trip is 1, expected true or false"),
        ("{shards: x, epochs: 0}", "the epochs of x are 0, expected at least 1"),
        ("{shards: x, epochs: 1.5}", "epochs is 1.5, expected a whole number"),
        ("{shards: [x, 3]}", "sources.a.shards.1 is 3, expected text"),
        ("{share: 1}", "has \\[\\] and \\[\\], expected either shards or sources"),
        ("{shards: x, sources: {b: {shards: y}}}", "expected either shards or sources"),
        ("{noise: 0.1, sources: {b: {shards: y}}}", "a group of sources has noise; give them to"),
        ("{sources: {b/c: {shards: y}}}", "sources.a: 'b/c' is no name of a source"),
        ("{sources: {b: 3}}", "run: sources.a.sources.b is 3, expected a mapping"),
        ("[]", "run: sources.a is \\[\\], expected a mapping"),
    ],
)
def test_a_wrong_entry_is_refused_with_its_place(entry, message):
    with pytest.raises(ValueError, match=message):
        parse_config(Source, {"sources": {"a": yaml.safe_load(entry)}}, "run")
