"""The BERT tokenizer inside the graph: the ids of Hugging Face `tokenizers`, for every text."""

from collections.abc import Sequence

import tensorflow as tf
import tensorflow_text as tf_text

from transforms.encoder.export import reference_classes as classes
from transforms.encoder.export.reference_classes import regex_class
from transforms.encoder.export.wordpiece import RESERVED, SPECIAL_TOKENS, require_tokens

# Words of more characters become one [UNK] (`max_input_chars_per_word` of the reference).
LONGEST_WORD = 100
# Of RESERVED: letters that no step changes.
_OUT_OF_VOCABULARY = "\U00010000"
_PLACEHOLDERS = dict(zip(SPECIAL_TOKENS, "\U00010001\U00010002\U00010003\U00010004\U00010005", strict=True))
# Capitals whose lower case ICU does not know yet, while Unicode 8 already had the small letter.
_LOWER_CASE = {"Σ": "σ", "\ua7cb": "ɤ", "\ua7dc": "ƛ"}
# ICU lowers these by the environment's language (Turkish, Lithuanian); so does it I and J, which are ASCII.
_LOWER_CASE_BY_LANGUAGE = {"İ": "i\u0307", "Ì": "ì", "Í": "í", "Ĩ": "ĩ", "Į": "į"}


class BertTokenizer(tf.Module):
    """Texts to token ids, with [CLS] and [SEP], cut to max_tokens.

    Literal special tokens in a text ("[MASK]") become their ids, as in the reference: they are swapped for
    placeholder letters before anything is normalised, and the vocabulary has the placeholders in their stead.
    """

    def __init__(
        self, vocab: Sequence[str], *, lower_case: bool, strip_accents: bool, max_tokens: int
    ) -> None:
        """Builds the word piece trie.

        Args:
          vocab: distinct tokens in the order of their ids; has [UNK], [CLS] and [SEP].
          lower_case: whether to lowercase.
          strip_accents: whether to drop combining marks.
          max_tokens: longest result, special tokens included; at least 2.

        Raises:
          UsageError: the vocabulary has characters that the graph cannot treat as the reference does.
        """
        super().__init__()
        require_tokens(vocab)
        self._lower_case = lower_case
        self._strip_accents = strip_accents
        self._max_tokens = max_tokens
        self._cls_sep = [vocab.index("[CLS]"), vocab.index("[SEP]")]
        self._specials = [token for token in SPECIAL_TOKENS if token in vocab]
        placeholders = {k: v for k, v in _PLACEHOLDERS.items() if k != "[UNK]"}
        self._words = tf_text.FastBertTokenizer(
            vocab=[placeholders.get(token, token) for token in vocab],
            max_bytes_per_word=4 * LONGEST_WORD,  # it counts bytes; _drop_long_words counts characters
            token_out_type=tf.int32,
            lower_case_nfd_strip_accents=False,
        )

    def tokenize(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Token ids.

        Args:
          texts: string [n], UTF-8.

        Returns:
          int32 [n, None]: [CLS], the first max_tokens - 2 pieces, [SEP].
        """
        return self.tokenize_and_count(texts)[0]

    def tokenize_and_count(self, texts: tf.Tensor) -> tuple[tf.RaggedTensor, tf.Tensor]:
        """Both `tokenize` and `count`, for the price of one."""
        pieces = self._pieces(texts)
        kept = tf.minimum(tf.cast(pieces.row_lengths(), tf.int32), self._max_tokens - 2)
        lengths = kept + 2
        # Where each output token comes from, in the pieces followed by [CLS] and [SEP]: one gather.
        text = tf.repeat(tf.range(tf.size(lengths)), lengths)
        position = tf.range(tf.size(text)) - tf.gather(tf.cumsum(lengths, exclusive=True), text)
        source = tf.gather(tf.cast(pieces.row_starts(), tf.int32), text) + position - 1
        total = tf.size(pieces.values)
        source = tf.where(position == 0, total, tf.where(position > tf.gather(kept, text), total + 1, source))
        ids = tf.gather(tf.concat([pieces.values, self._cls_sep], axis=0), source)
        cut = tf.RaggedTensor.from_row_lengths(ids, lengths, validate=False)
        return cut, tf.cast(pieces.row_lengths(), tf.int32) + 2

    def count(self, texts: tf.Tensor) -> tf.Tensor:
        """Numbers of tokens before any cut, [CLS] and [SEP] included: string [n] -> int32 [n]."""
        return tf.cast(self._pieces(texts).row_lengths(), tf.int32) + 2

    def _pieces(self, texts: tf.Tensor) -> tf.RaggedTensor:
        return self._words.tokenize(_drop_long_words(self._normalize(texts)))

    def _normalize(self, texts: tf.Tensor) -> tf.Tensor:
        """The reference's normaliser, up to what the trie does by itself (whitespace, most word borders)."""
        texts = _replace(texts, regex_class(classes.FOREIGN, RESERVED), _OUT_OF_VOCABULARY)
        for token in self._specials:
            texts = _replace(texts, rf"\[{token[1:-1]}\]", f" {_PLACEHOLDERS[token]} ")
        texts = _replace(texts, regex_class(classes.REMOVED), "")
        texts = _replace(texts, f"({regex_class(classes.UNSPLIT)})", r" \1 ")
        if self._strip_accents:
            texts = _replace(tf_text.normalize_utf8(texts, "NFD"), regex_class(classes.MARKS), "")
        if self._lower_case:
            # Character by character, as the reference: ICU would make a final sigma of some.
            by_language = {} if self._strip_accents else _LOWER_CASE_BY_LANGUAGE
            for capital, small in (_LOWER_CASE | by_language).items():
                texts = _replace(texts, capital, small)
            texts = tf.strings.lower(tf.strings.lower(texts), encoding="utf-8")  # ASCII, then the rest
        return texts


def _drop_long_words(texts: tf.Tensor) -> tf.Tensor:
    """Replaces words of more than LONGEST_WORD characters by one that is not in the vocabulary."""
    no_space = regex_class(classes.SPACE, negate=True)
    # Cheap and mostly false: only texts with a long run pay for finding the words in it.
    suspects = tf.strings.regex_full_match(texts, rf"(?s).*{no_space}{{{LONGEST_WORD + 1}}}.*")

    def drop() -> tf.Tensor:
        words = _replace(tf.where(suspects, texts, ""), f"({regex_class(classes.ISOLATED)})", r" \1 ")
        words = _replace(words, rf"{no_space}{{{LONGEST_WORD + 1},}}", _OUT_OF_VOCABULARY)
        return tf.where(suspects, words, texts)

    return tf.cond(tf.reduce_any(suspects), drop, lambda: texts)


def _replace(texts: tf.Tensor, pattern: str, rewrite: str) -> tf.Tensor:
    return tf.strings.regex_replace(texts, pattern, rewrite)
