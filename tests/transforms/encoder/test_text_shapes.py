"""TF Hub's shapes of text models, and models of token ids, held against calling the same model directly."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_hub as hub
from text_models import VOCAB, word_tokenizer

from transforms.encoder.card import Card, with_prompt
from transforms.encoder.config import ModelConfig
from transforms.encoder.hub import HubEncoder
from transforms.encoder.inputs import check_options
from transforms.encoder.robust import RobustEncoder
from transforms.errors import UsageError

TEXTS = [
    "the cat runs",
    "A dog",
    "small old moon lighting the tree",
    "un##known river",
    "the night house over the river runs runs runs",
]
LONG = "the old cat runs over a house " * 20


def load(handle, **config):
    return HubEncoder(ModelConfig(str(handle), **config))


def error(handle, **config):
    with pytest.raises(UsageError) as caught:
        load(handle, **config)
    return str(caught.value)


def embed(encoder, payloads):
    prepared, refused = encoder.prepare(payloads)
    assert refused == {}
    return encoder.embed(prepared)


def close(vectors, expected):
    expected = np.asarray(expected)
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(expected, axis=1)
    cosines = (vectors * expected).sum(axis=1) / lengths
    assert vectors.shape == expected.shape
    assert cosines.min() >= 0.99999, cosines


def test_a_word_model(text_model):
    path = text_model("nnlm")
    encoder = load(path)
    assert (encoder.dim, encoder.can_count, encoder.modality.name) == (16, False, "text")
    close(embed(encoder, TEXTS), hub.load(path)(TEXTS))


def test_tf1_hubs_format_with_several_outputs(text_model):
    path = text_model("elmo")
    direct = hub.load(path).signatures["default"](tf.constant(TEXTS))
    encoder = load(path)
    assert (encoder.signature, encoder.output) == ("default", "default")
    close(embed(encoder, TEXTS), direct["default"])
    of_text = hub.load(path).signatures["default"]
    alone = [of_text(tf.constant([text]))["elmo"][0] for text in TEXTS]  # nothing tells what is padding
    for pooling, expected in (
        ("mean", [tf.reduce_mean(one, 0) for one in alone]),
        ("max", [tf.reduce_max(one, 0) for one in alone]),
        ("cls", [one[0] for one in alone]),
        ("last", [one[-1] for one in alone]),
    ):
        close(embed(load(path, output="elmo", pooling=pooling), TEXTS), expected)
    assert error(path, output="eml").endswith(
        "no such output; the model has (default: float32 [n, 16], elmo: float32 [n, n, 16], "
        "lstm_outputs1: float32 [n, n, 16], word_emb: float32 [n, n, 16])"
    )


@pytest.fixture
def pair(text_model):
    return text_model("encoder"), text_model("preprocessor")


def directly(pair, texts, seq_length=None):
    """What the encoder gives for what the preprocessor gives, as TF Hub's pages say it."""
    encoder, preprocessor = map(hub.load, pair)
    texts = tf.constant(texts)
    if seq_length is None:
        inputs = preprocessor(texts)
    else:
        inputs = preprocessor.bert_pack_inputs([preprocessor.tokenize(texts)], tf.constant(seq_length))
    return inputs, encoder(inputs)


@pytest.mark.parametrize("in_steps", [True, False])
def test_a_preprocessor_and_an_encoder(text_model, in_steps):
    pair = text_model("encoder"), text_model("preprocessor", in_steps=in_steps)
    inputs, direct = directly(pair, TEXTS)
    encoder = load(pair[0], preprocessor=pair[1])
    assert (encoder.signature, encoder.output, encoder.window) == ("__call__", "default", 32)
    close(embed(encoder, TEXTS), direct["default"])
    close(embed(load(pair[0], preprocessor=pair[1], output="pooled_output"), TEXTS), direct["pooled_output"])
    tokens, ids = encoder.tokenize(TEXTS)
    assert tokens.tolist() == tf.reduce_sum(inputs["input_mask"], 1).numpy().tolist()
    assert (ids is not None) == in_steps


def test_positions_of_a_pair_are_pooled_with_their_mask(pair):
    inputs, direct = directly(pair, TEXTS)
    states = direct["sequence_output"].numpy()
    counts = inputs["input_mask"].numpy().sum(axis=1)
    expected = {
        "mean": [rows[:n].mean(axis=0) for rows, n in zip(states, counts, strict=True)],
        "max": [rows[:n].max(axis=0) for rows, n in zip(states, counts, strict=True)],
        "cls": states[:, 0],
        "last": [rows[n - 1] for rows, n in zip(states, counts, strict=True)],
    }
    for pooling, vectors in expected.items():
        encoder = load(pair[0], preprocessor=pair[1], output="sequence_output", pooling=pooling)
        close(embed(encoder, TEXTS), vectors)


def test_padding_is_cut_to_the_longest_of_the_mini_batch(pair):
    encoder = load(pair[0], preprocessor=pair[1])
    for texts, longest in ((["a cat", "the old dog runs"], 6), ([LONG], 32)):
        outputs, mask = encoder.input.call(encoder.prepare(texts)[0])
        assert outputs["sequence_output"].shape == (len(texts), longest, 16)
        assert mask.shape == (len(texts), longest)


def test_an_encoder_of_fixed_length_gets_it(text_model):
    pair = text_model("encoder", length=32), text_model("preprocessor")
    close(embed(load(pair[0], preprocessor=pair[1]), TEXTS), directly(pair, TEXTS)[1]["default"])
    assert error(pair[0], preprocessor=pair[1], seq_length=16).startswith("seq_length 16: the encoder's ")


def test_another_sequence_length(pair, text_model):
    encoder = load(pair[0], preprocessor=pair[1], seq_length=100)
    assert encoder.window == 100
    close(embed(encoder, [LONG, *TEXTS]), directly(pair, [LONG, *TEXTS], 100)[1]["default"])
    whole = text_model("preprocessor", in_steps=False)
    assert error(pair[0], preprocessor=whole, seq_length=100).startswith(
        "seq_length 100: the preprocessor has"
    )


def test_what_was_counted_is_what_the_pair_gets(pair):
    encoder = load(pair[0], preprocessor=pair[1])
    tokens, ids = encoder.tokenize([LONG, *TEXTS])
    assert tokens.tolist()[0] == 142  # before any cut
    by_ids = embed(encoder, [np.array(one, np.int32) for one in ids.to_pylist()])
    assert np.array_equal(by_ids, embed(encoder, [LONG, *TEXTS]))


def test_models_that_are_no_pair(pair, text_model):
    encoder, preprocessor = pair
    nnlm, gpt = text_model("nnlm"), text_model("decoder")
    assert "name the `preprocessor` of texts" in error(encoder)
    assert "its token ids may come from a `preprocessor`" in error(encoder, modality="text")
    assert error(encoder, preprocessor=nnlm).endswith(
        "gives no tensors by name, which the encoder would take"
    )
    assert "takes no texts" in error(encoder, preprocessor=gpt)
    assert "expected the preprocessor that goes with the model" in error(gpt, preprocessor=preprocessor)


def test_the_digest_is_of_both(pair, text_model):
    digests = {
        load(pair[0], preprocessor=pair[1]).digest,
        load(pair[0], preprocessor=text_model("preprocessor", length=16)).digest,
        load(pair[0], modality="tokens").digest,
    }
    assert len(digests) == 3


# Token ids


def test_a_decoder_is_not_changed_by_padding(text_model):
    path = text_model("decoder")
    ids = [np.arange(1, n, dtype=np.int32) for n in (4, 20, 2, 11)]
    serve = hub.load(path).signatures["serving_default"]

    def states(one):
        tensor = tf.constant(one[None], tf.int64)
        out = serve(input_ids=tensor, attention_mask=tf.ones_like(tensor))
        return out["last_hidden_state"][0].numpy()

    for pooling, expected in (("last", lambda s: s[-1]), ("mean", lambda s: s.mean(axis=0))):
        encoder = load(path, pooling=pooling)
        assert (encoder.modality.name, encoder.window) == ("tokens", 24)
        vectors = embed(encoder, ids)
        close(vectors, [expected(states(one)) for one in ids])
        np.testing.assert_allclose(vectors[0], embed(encoder, ids[:1])[0], rtol=0, atol=1e-6)
        longer = embed(encoder, [np.arange(1, 31, dtype=np.int32)])  # than the window, to which it is cut
        close(longer, embed(encoder, [np.arange(1, 25, dtype=np.int32)]))


def test_ids_one_after_the_other(text_model):
    path = text_model("id_model")
    encoder = load(path, modality="tokens")
    assert (encoder.signature, encoder.window) == ("embed_ids", 12)
    ids = [np.array([2, 7, 7, 3], np.int32), np.array([2, 3], np.int32)]
    flat, lengths = tf.constant(np.concatenate(ids)), tf.constant([4, 2])
    direct = hub.load(path).signatures["embed_ids"](ids=flat, lengths=lengths)
    close(embed(encoder, ids), direct["embedding"])


# Tokenizers


def test_tokens_are_made_once(text_model):
    """What `tokenize` tells the model takes in the text's place, with the vectors that strings have."""
    path = text_model("id_model")
    encoder, strings = load(path), hub.load(path).signatures["serving_default"]
    tokens, ids = encoder.tokenize([LONG, *TEXTS])
    assert (tokens.tolist()[0], len(ids[0])) == (142, 12)
    direct = strings(tf.constant([LONG, *TEXTS]))["embedding"]
    close(embed(encoder, [LONG, *TEXTS]), direct)
    mixed = [LONG, *(np.array(one, np.int32) for one in ids.to_pylist()[1:])]
    close(embed(encoder, mixed), direct)


def test_a_tokenizer_beside_the_model(text_model):
    path = text_model("id_model", host=True)
    encoder = load(path)
    assert (encoder.modality.name, encoder.window) == ("text", 12)
    reference = word_tokenizer()
    whole = [reference.encode(text).ids for text in [LONG, *TEXTS]]
    tokens, ids = encoder.tokenize([LONG, *TEXTS])
    assert tokens.tolist() == [len(one) for one in whole]
    reference.enable_truncation(12)
    cut = [reference.encode(text).ids for text in [LONG, *TEXTS]]
    assert ids.to_pylist() == cut
    assert cut[0][-1] == VOCAB.index("[SEP]")
    flat, lengths = np.concatenate(cut).astype(np.int32), np.array(list(map(len, cut)), np.int32)
    direct = hub.load(path).signatures["embed_ids"](ids=tf.constant(flat), lengths=tf.constant(lengths))
    close(embed(encoder, [LONG, *TEXTS]), direct["embedding"])


@pytest.mark.parametrize("about", [{}, {"host": True}, {"ids": False}])
def test_prompts(text_model, about):
    encoder, plain = (load(text_model("id_model", **about), prompt=p) for p in ("query", None))
    prompted = [f"find this : {text}" for text in TEXTS]
    close(embed(encoder, TEXTS), embed(plain, prompted))
    assert encoder.tokenize(TEXTS)[0].tolist() == plain.tokenize(prompted)[0].tolist()
    own = load(text_model("id_model", **about), prompt="find this : ")
    close(embed(own, TEXTS), embed(plain, prompted))


def test_a_prompt_that_would_be_glued_to_the_first_word(text_model):
    assert error(text_model("id_model"), prompt="search query").startswith(
        "prompt search query: the model has no"
    )


def test_a_signature_with_a_prompt_gets_no_other(tmp_path):
    card = Card(prompts={"query": "find: "}, default_prompt="query")
    config = ModelConfig("m", signature="query")
    assert with_prompt(config, card, {"query"}) == config
    with pytest.raises(UsageError, match="signature query has a prompt already"):
        with_prompt(dataclasses.replace(config, prompt="query"), card, {"query"})


@pytest.mark.parametrize(
    ("about", "modality", "message"),
    [
        (
            {"image_size": 64},
            "text",
            "image_size 64: is for models of image, and this one's documents are text",
        ),
        ({"column": ("a=b", "c")}, "tokens", "column a=b c: is for models of tabular"),
        ({"prompt": "a: "}, "tokens", "prompt a: : is for models of text"),
        ({"seq_length": 5}, "text", "seq_length 5: is the preprocessor's, and no `preprocessor` is given"),
    ],
)
def test_options_that_mean_nothing(about, modality, message):
    with pytest.raises(UsageError) as e:
        check_options(ModelConfig("m", **about), modality)
    assert str(e.value).startswith(message)


def test_a_mini_batch_of_refused_ids_alone_is_no_fault_of_the_model(text_model):
    """Whatever comes first: the sample tells that the model works."""
    robust = RobustEncoder(load(text_model("decoder"), modality="tokens", pooling="last"))
    many = [np.array([10**6], np.int32)] * 2
    _, failures, _ = robust.embed(robust.prepare(many), [1, 1])
    assert sorted(failures) == [0, 1]


def test_a_text_is_alone_where_its_padding_would_count(text_model):
    encoder = load(text_model("elmo"), output="elmo")
    texts = ["one", "one two three four five six"]
    together, alone = embed(encoder, texts), np.concatenate([embed(encoder, [text]) for text in texts])
    assert np.array_equal(together, alone)


def test_a_prompt_that_the_model_does_not_have(text_model):
    assert error(text_model("id_model"), prompt="qury") == (
        "prompt qury: the model has no such prompt; it has: passage, query; a text of your own ends in a "
        "space or a sign"
    )


def test_shorter_vectors(text_model):
    path = text_model("id_model")
    whole, cut = load(path), load(path, dim=5)
    assert (cut.dim, cut.model_dim, cut.unit_length) == (5, 16, True)
    head = embed(whole, TEXTS)[:, :5]
    close(embed(cut, TEXTS), head)
    np.testing.assert_allclose(np.linalg.norm(embed(cut, TEXTS), axis=1), 1, atol=1e-6)
    assert error(path, dim=17) == "dim 17: the model's vectors have 16 numbers"
    nnlm = load(text_model("nnlm"), dim=3)  # no unit vectors: they stay as they are
    np.testing.assert_allclose(embed(nnlm, TEXTS), embed(load(text_model("nnlm")), TEXTS)[:, :3], atol=1e-7)
