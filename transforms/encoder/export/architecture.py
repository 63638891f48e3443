"""What a transformer is made of, as data: the families describe it, blocks/transformer.py builds it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Layer:
    """What may differ between layers.

    Attributes:
      span: how far a token sees to either side (only back where causal), itself not counted; None: all.
      frequencies: rotary angles per position, float32 [width / 2]; empty where nothing is rotated.
    """

    span: int | None = None
    frequencies: tuple[float, ...] = ()


@dataclass(frozen=True)
class Names:
    """The checkpoint's tensor names, without `.weight` and `.bias`; "{i}" stands for the layer's number.

    Several names of one part are stacked, in this order, on the output side.

    Attributes:
      words: the table of token vectors.
      qkv: queries, keys and values.
      out: attention's output.
      up: the feed-forward's input; of a gated one first what is activated, then what it multiplies.
      down: its output.
      attention_norm: after the attention's residual sum, or before attention where norms come first.
      mlp_norm: the same for the feed-forward part.
      query_norm: of each head's queries.
      key_norm: of each head's keys.
      positions: the table of position vectors.
      types: the table of token types, of which the first row is used.
      embedding_norm: before the first layer.
      final_norm: after the last layer.
      relative: the table of attention biases, [buckets, heads].
    """

    words: str
    qkv: tuple[str, ...]
    out: str
    up: tuple[str, ...]
    down: str
    attention_norm: str
    mlp_norm: str
    query_norm: str = ""
    key_norm: str = ""
    positions: str = ""
    types: str = ""
    embedding_norm: str = ""
    final_norm: str = ""
    relative: str = ""


@dataclass(frozen=True)
class Architecture:
    """One checkpoint's encoder.

    Attributes:
      family: config.json's model_type.
      hidden: width of a token row.
      heads: attention heads.
      key_heads: heads of keys and values; divides heads.
      width: of one head.
      inner: width of the feed-forward part.
      vocab_size: rows of the table of token vectors.
      window: the most tokens that the positions allow.
      layers: from the first to the last.
      names: of the tensors.
      prefixes: that some checkpoints put before all names.
      activation: a key of blocks.dense.ACTIVATIONS.
      epsilon: added to the variance in every norm.
      gated: whether the feed-forward part multiplies its activation with a second product.
      rms: whether norms only scale (root mean square), not centre.
      norm_first: whether norms come before attention and feed-forward, not after their residual sums.
      first_norm: whether the first layer has an attention norm.
      causal: whether a token sees only what stands before it.
      norm_bias: whether norms have an offset.
      qkv_bias: whether queries, keys and values have a bias.
      out_bias: whether attention's output has one.
      mlp_bias: whether the feed-forward products have one.
      position_rows: rows of the table of positions; 0: none.
      position_offset: row of a text's first token.
      pad: id of the padding token, which takes no position where one stands in a text; None: it does.
      type_rows: rows of the table of token types; 0: none.
      buckets: rows of the table of relative biases; 0: none.
    """

    family: str
    hidden: int
    heads: int
    width: int
    inner: int
    vocab_size: int
    window: int
    layers: tuple[Layer, ...]
    names: Names = field(repr=False)
    prefixes: tuple[str, ...] = ()
    key_heads: int = 0
    activation: str = "gelu"
    epsilon: float = 1e-12
    gated: bool = False
    rms: bool = False
    norm_first: bool = False
    first_norm: bool = True
    causal: bool = False
    norm_bias: bool = True
    qkv_bias: bool = True
    out_bias: bool = True
    mlp_bias: bool = True
    position_rows: int = 0
    position_offset: int = 0
    pad: int | None = None
    type_rows: int = 0
    buckets: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "key_heads", self.key_heads or self.heads)

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the checkpoint's tensors; dense weights are [out, in], as PyTorch has them."""
        names = self.names
        shapes: dict[str, tuple[int, ...]] = {f"{names.words}.weight": (self.vocab_size, self.hidden)}
        tables = {names.positions: self.position_rows, names.types: self.type_rows}
        shapes |= {f"{name}.weight": (rows, self.hidden) for name, rows in tables.items() if name and rows}
        if names.relative:
            shapes[f"{names.relative}.weight"] = (self.buckets, self.heads)
        for i in range(len(self.layers)):
            shapes |= {name.replace("{i}", str(i)): shape for name, shape in self._layer_shapes(i).items()}
        for name in filter(None, (names.embedding_norm, names.final_norm)):
            shapes |= self._norm_shapes(name, self.hidden)
        return shapes

    def _layer_shapes(self, i: int) -> dict[str, tuple[int, ...]]:
        names = self.names
        shapes: dict[str, tuple[int, ...]] = {}
        mixed, keys = self.heads * self.width, self.key_heads * self.width
        fused = (mixed + 2 * keys,) if len(names.qkv) == 1 else (mixed, keys, keys)
        ups = (self.inner * (1 + self.gated) // len(names.up),) * len(names.up)
        dense = [
            (name, rows, self.hidden, self.qkv_bias) for name, rows in zip(names.qkv, fused, strict=True)
        ]
        dense += [(names.out, self.hidden, mixed, self.out_bias)]
        dense += [(name, rows, self.hidden, self.mlp_bias) for name, rows in zip(names.up, ups, strict=True)]
        dense += [(names.down, self.hidden, self.inner, self.mlp_bias)]
        for name, rows, columns, bias in dense:
            shapes[f"{name}.weight"] = (rows, columns)
            if bias:
                shapes[f"{name}.bias"] = (rows,)
        norms = [(names.attention_norm, self.hidden)] * (i > 0 or self.first_norm)
        norms += [(names.mlp_norm, self.hidden), (names.query_norm, self.width), (names.key_norm, self.width)]
        for name, size in norms:
            shapes |= self._norm_shapes(name, size) if name else {}
        return shapes

    def _norm_shapes(self, name: str, size: int) -> dict[str, tuple[int, ...]]:
        parts = ("weight", "bias") if self.norm_bias else ("weight",)
        return {f"{name}.{part}": (size,) for part in parts}
