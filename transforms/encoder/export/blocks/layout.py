"""Where tokens lie: packed rows <-> the padded [n, heads, l] of attention."""

from __future__ import annotations

import tensorflow as tf


class Layout:
    """Made once for all layers. n texts, t tokens in all, l tokens in the longest text.

    Attributes:
      lengths: int32 [n].
      starts: int32 [n], row of each text's first token.
      text: int32 [t], the text of each token.
      position: int32 [t], its place in the text.
      longest: l.
      mask: float32 [n, 1, 1, l], 0 for tokens and -1e9 for padding.
      heads: of queries.
      key_heads: of keys and values.
    """

    def __init__(self, lengths: tf.Tensor, *, heads: int, key_heads: int) -> None:
        self.lengths = lengths
        self.starts = tf.cumsum(lengths, exclusive=True)
        n = tf.size(lengths)
        self.text = tf.repeat(tf.range(n), lengths)
        total = tf.size(self.text)
        self.position = tf.range(total) - tf.gather(self.starts, self.text)
        self.longest = tf.reduce_max(tf.concat([lengths, [0]], axis=0))
        places = tf.range(self.longest)
        real = places < lengths[:, tf.newaxis]
        self.mask = tf.where(real, 0.0, -1e9)[:, tf.newaxis, tf.newaxis, :]
        # Padding reads the text's own first token; the mask keeps it out of every sum. A text without tokens
        # at the very end reads the last there is.
        token = tf.minimum(self.starts[:, tf.newaxis] + tf.where(real, places, 0), total - 1)
        # Into [t * (heads + 2 * key_heads), width], so that one gather pads, splits heads and transposes.
        self._token = token[:, tf.newaxis, :] * (heads + 2 * key_heads)
        self.heads, self.key_heads = heads, key_heads
        if heads == key_heads:
            self._all = self._index(3, heads, first=0)
        else:
            self._queries, self._keys = self._index(1, heads, first=0), self._index(2, key_heads, first=heads)
        # Into [n * heads * l, width], and back to [t, heads].
        row = self.text[:, tf.newaxis] * heads + tf.range(heads)
        self._unpad = row * self.longest + self.position[:, tf.newaxis]

    def _index(self, parts: int, heads: int, *, first: int) -> tf.Tensor:
        """Rows of `parts` times `heads` heads, the first of which is number `first`: [parts, n, heads, l]."""
        head = tf.reshape(tf.range(first, first + parts * heads), [parts, 1, heads, 1])
        return self._token + head

    def pad(self, heads: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """[t * (heads + 2 * key_heads), width] -> queries [n, heads, l, width], keys and values."""
        if self.heads == self.key_heads:
            query, key, value = tf.unstack(tf.gather(heads, self._all), num=3)
            return query, key, value
        [query] = tf.unstack(tf.gather(heads, self._queries), num=1)
        key, value = tf.unstack(tf.gather(heads, self._keys), num=2)
        return query, key, value

    def unpad(self, padded: tf.Tensor, width: int) -> tf.Tensor:
        """[n, heads, l, width] -> [t, heads * width]."""
        packed = tf.gather(tf.reshape(padded, [-1, width]), self._unpad)
        return tf.reshape(packed, [-1, self.heads * width])
