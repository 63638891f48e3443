"""Trains a tiny tokenizer in each real style, on the golden texts; part of tests/make_golden.py."""

import json
from pathlib import Path

from golden.texts import golden_texts
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

# Of GPT-4, as Qwen2 and Llama 3 have it.
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,%s}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)


def make_tokenizers(folder: Path) -> None:
    """Writes them all."""
    folder.mkdir(exist_ok=True)
    texts = [text for text in golden_texts() if max(map(len, text.split()), default=0) <= 40]
    _wordpiece(texts, folder)
    _roberta(texts).save(str(folder / "roberta.json"))
    _xlmr(texts).save(str(folder / "xlmr.json"))
    _modernbert(texts).save(str(folder / "modernbert.json"))
    _qwen(texts).save(str(folder / "qwen.json"))
    _llama3(texts).save(str(folder / "llama3.json"))
    _llama2(texts).save(str(folder / "llama2.json"))


def _wordpiece(texts: list[str], folder: Path) -> None:
    """BERT's vocab.txt, and MPNet's tokenizer: the same pieces between other special tokens."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    own = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(
        vocab_size=900, special_tokens=own, limit_alphabet=300, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    # Beyond what the graph's tokenizer takes in a vocabulary.
    tokens = [
        t for t, _ in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1]) if max(t) < "\ua000"
    ]
    (folder / "wordpiece.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    specials = ["<s>", "<pad>", "</s>", "<unk>", "[UNK]"]
    vocab = {token: i for i, token in enumerate([*specials, *tokens[5:], "<mask>"])}
    mpnet = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    mpnet.normalizer, mpnet.pre_tokenizer = tokenizer.normalizer, tokenizer.pre_tokenizer
    mpnet.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    mpnet.decoder = decoders.WordPiece()
    mpnet.add_special_tokens([*specials, AddedToken("<mask>", lstrip=True, special=True)])
    mpnet.save(str(folder / "mpnet.json"))


def _byte_level(texts: list[str], specials: list[str], pre_tokenizer, *, normalizer=None) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizer, decoders.ByteLevel()
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _roberta(texts: list[str]) -> Tokenizer:
    specials = ["<s>", "<pad>", "</s>", "<unk>"]
    tokenizer = _byte_level(texts, specials, pre_tokenizers.ByteLevel(add_prefix_space=False))
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)])
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return tokenizer


def _modernbert(texts: list[str]) -> Tokenizer:
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = _byte_level(texts, specials, pre_tokenizer, normalizer=normalizers.NFC())
    tokenizer.add_special_tokens([AddedToken("[MASK]", lstrip=True, special=True)])
    tokenizer.post_processor = _template("[CLS] $A [SEP]", tokenizer)
    return tokenizer


def _qwen(texts: list[str]) -> Tokenizer:
    tokenizer = _byte_level(texts, [], _gpt(1), normalizer=normalizers.NFC())
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer.post_processor = _template("$A <|endoftext|>", tokenizer)
    return tokenizer


def _llama3(texts: list[str]) -> Tokenizer:
    tokenizer = _byte_level(texts, [], _gpt(3))
    tokenizer.add_special_tokens(["<|begin_of_text|>", "<|end_of_text|>"])
    tokenizer.post_processor = processors.Sequence(
        [processors.ByteLevel(trim_offsets=True), _template("<|begin_of_text|> $A", tokenizer)]
    )
    return tokenizer


def _llama2(texts: list[str]) -> Tokenizer:
    """SentencePiece's BPE with bytes for unknown characters."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    specials = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(
        vocab_size=900, special_tokens=specials, limit_alphabet=200, show_progress=False
    )
    # Learnt within words; the published ones never cross a space, although nothing splits there.
    split = pre_tokenizers.Metaspace(prepend_scheme="first", split=True)
    tokenizer.pre_tokenizer = split
    tokenizer.train_from_iterator(texts, trainer)
    content = json.loads(tokenizer.to_str())
    content["added_tokens"] = content["added_tokens"][:3]  # bytes are no special tokens
    content["pre_tokenizer"]["split"] = False
    content["model"]["byte_fallback"] = True
    content["post_processor"] = json.loads(_template("<s> $A </s>", tokenizer).__getstate__())
    return Tokenizer.from_str(json.dumps(content))


def _xlmr(texts: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    specials = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=1500, special_tokens=specials, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)])
    tokenizer.post_processor = _template("<s> $A </s>", tokenizer)
    return tokenizer


def _gpt(digits: int):
    split = pre_tokenizers.Split(
        Regex(_SPLIT.replace("{1,%s}", "" if digits == 1 else f"{{1,{digits}}}")), "isolated"
    )
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def _template(single: str, tokenizer: Tokenizer) -> processors.TemplateProcessing:
    special = [(token, tokenizer.token_to_id(token)) for token in single.split() if token != "$A"]
    return processors.TemplateProcessing(single, f"{single} {single.replace('$A', '$B')}", special)
