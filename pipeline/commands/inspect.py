"""`embedbeam inspect`: what a model is, as the job would use it."""

from __future__ import annotations

from transforms.encoder.hub import HubEncoder, ModelConfig
from transforms.encoder.model.handle import redact


def print_model(handle: str, *, signature: str | None = None, model_output: str | None = None) -> int:
    """Loads a model and prints what the job needs to know of it. Returns the exit code.

    Raises:
      UsageError: the model cannot be used.
    """
    encoder = HubEncoder(ModelConfig(handle, signature, model_output))
    sample = encoder.sample
    vector = encoder.embed([sample])[0]
    window = "not stated by the model" if encoder.max_tokens is None else str(encoder.max_tokens)
    counts = (
        f"yes ({encoder.count_tokens([sample])[0]} in the sample)" if encoder.can_count else "no: estimated"
    )
    numbers = ", ".join(f"{value:.4f}" for value in vector[:4])
    print(f"model       {redact(handle)}")
    print(f"digest      {encoder.digest}")
    print(f"signature   {encoder.signature}({encoder.input_name}: string [n])")
    print(f"output      {encoder.output or 'the only one'}: {encoder.dtype} [n, {encoder.dim}]")
    print(f"dim         {encoder.dim}")
    print(f"dtype       {encoder.dtype}")
    print(f"max tokens  {window}")
    print(f"counts      {counts}")
    print(f"device      {encoder.device_name}")
    print(f"load        {encoder.load_seconds:.1f} s, warm-up {encoder.warm_up_seconds:.1f} s")
    print(f"sample      {sample!r} -> [{numbers}, ...]")
    return 0
