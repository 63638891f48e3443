"""Functions of a model that take token ids, whoever made those."""

from __future__ import annotations

from typing import Any

import numpy as np

from transforms.encoder.inputs.rows import Rows
from transforms.encoder.messages import model_error
from transforms.encoder.signature import RAGGED, described, takes_ids, tensors

# What an input of one of these names is given; one of another name, alone, is given the ids.
_ROLES = {
    "ids": ("input_ids", "input_word_ids", "ids", "token_ids", "tokens", "inputs"),
    "mask": ("attention_mask", "input_mask", "mask"),
    "types": ("token_type_ids", "input_type_ids", "type_ids", "segment_ids"),
    "positions": ("position_ids",),
}
_ROLE = {name: role for role, names in _ROLES.items() for name in names}


class IdsFunction:
    """A function of token ids: padded, [n, positions], or one after the other.

    Attributes:
      described: its inputs, for people.
      width: how many positions it takes; None: as many as there are.
    """

    def __init__(self, tf: Any, function: Any, handle: str, signature: str):
        """Checks what the function takes.

        Raises:
          UsageError: it is not token ids, or an input has a name that does not tell what it is to be given.
        """
        self._tf, self._function = tf, function
        specs, self._by_name = tensors(tf, function)
        self.described = described(specs)
        takes = f"signature {signature} takes ({self.described or 'nothing'})"
        if not takes_ids(tf, function):
            raise model_error(
                handle,
                f"{takes}, expected integers [n, positions]: choose another `signature`, or the `modality` "
                "that fits",
            )
        self._ragged = set(specs) == RAGGED
        alone = dict.fromkeys(specs, "ids") if len(specs) == 1 else {}
        self._roles = {name: alone.get(name) or _ROLE.get(name, "") for name in specs}
        roles = list(self._roles.values())
        if not self._ragged and ("" in roles or roles.count("ids") != 1):
            known = ", ".join(_ROLE)
            raise model_error(handle, f"{takes}, expected inputs of these names: {known}")
        self._types = {name: spec.dtype.as_numpy_dtype for name, spec in specs.items()}
        widths = {spec.shape[1] for spec in specs.values()} - {None} if not self._ragged else set()
        self.width: int | None = min(widths, default=None)

    def __call__(self, rows: Rows) -> tuple[Any, Any]:
        """The outputs for padded ids (`ids`, `lengths`), and a mask [n, positions] of what is no padding."""
        ids, lengths = rows.columns["ids"], rows.columns["lengths"]
        mask = np.arange(ids.shape[1]) < lengths[:, np.newaxis]
        if self._ragged:
            given = {"ids": ids[mask], "lengths": lengths}
        else:
            if self.width is None and len(lengths):
                longest = max(1, int(lengths.max()))
                ids, mask = ids[:, :longest], mask[:, :longest]
            made = {"ids": ids, "mask": mask, "types": np.zeros_like(ids)}
            made["positions"] = np.broadcast_to(np.arange(ids.shape[1]), ids.shape)
            given = {name: made[role] for name, role in self._roles.items()}
        constant = self._tf.constant
        fed = {name: constant(value.astype(self._types[name])) for name, value in given.items()}
        return self._function(**fed) if self._by_name else self._function(*fed.values()), mask
