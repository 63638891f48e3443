"""The model is loaded while the input is listed: two threads, and whoever is wrong first is heard first."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from pipeline.options.fields import stated
from pipeline.options.options import Options, PayloadOptions
from pipeline.run.screen import Screen
from transforms.encoder.model.handle import MINILM, pin, resolve
from transforms.errors import UsageError
from transforms.modality import Modality
from transforms.modality.text import TEXT
from transforms.storage.files import full_path

if TYPE_CHECKING:
    from transforms.encoder.config import ModelConfig
    from transforms.encoder.hub import HubEncoder
    from transforms.steps.encoder import SharedEncoder

_THREAD = "embedbeam loads the model"
_imports = threading.Lock()


def is_loading() -> bool:
    """Whether a model is still being loaded, for a run that has ended without it."""
    return any(thread.name.startswith(_THREAD) for thread in threading.enumerate())


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Leaves garbage alone: imports make millions of objects that stay, and to look through them again and
    again takes a quarter of the time of importing TensorFlow, and of what comes after it."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.unfreeze()  # all that is there counts as old now, and was not looked through for it
        if was:
            gc.enable()


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """One thread at a time imports TensorFlow or Beam: they share packages whose modules import each other in
    circles, which two threads may find half made. Nothing is lost, since imports hold Python's own lock."""
    with _imports, uncollected():
        yield


def start_loading(
    options: Options, screen: Screen, model_digest: str | None = None, intra_op: int | None = None
) -> Future[HubEncoder]:
    """Begins to load the model. The caller may do something else meanwhile.

    A process that fails otherwise need not wait for it, but ends only after it: TensorFlow must not be cut
    off in the middle of its import.
    """
    # In this thread, and not first in one that ends: see the pin of pyarrow in pyproject.toml.
    import pyarrow.parquet  # noqa: F401

    thread = ThreadPoolExecutor(1, thread_name_prefix=_THREAD)
    loading = thread.submit(load_encoder, options, screen, model_digest, intra_op)
    thread.shutdown(wait=False)
    return loading


def load_encoder(
    options: Options, screen: Screen, model_digest: str | None = None, intra_op: int | None = None
) -> HubEncoder:
    """Loads and checks the model here, before any worker starts.

    Raises:
      UsageError: the model cannot be used.
      ModelError: it is another one than the digest says.
    """
    config = _config(options, model_digest, intra_op)
    with screen.doing("fetching the model"):
        both = {"handle": config.handle, "preprocessor": config.preprocessor}
        pinned: dict[str, Any] = {name: pin(handle) for name, handle in both.items() if handle is not None}
        for name, handle in pinned.items():
            try:
                resolve(handle)
            except UsageError as e:
                if name == "handle":
                    raise
                words = str(e).replace("model ", "preprocessor ", 1)
                raise UsageError(words, argument="preprocessor") from e
        config = dataclasses.replace(config, **pinned)
    with screen.doing("importing TensorFlow"), importing():
        from transforms.encoder.device import import_tensorflow
        from transforms.encoder.hub import HubEncoder

        import_tensorflow()
        import tensorflow_hub  # noqa: F401
    with screen.doing("loading the model"), uncollected():
        return HubEncoder(config)


def shared_encoder(options: Options, loaded: HubEncoder, intra_op: int | None = None) -> SharedEncoder:
    """What travels to the workers; those of this process share the model that is loaded here."""
    from transforms.steps.encoder import SharedEncoder

    # Workers fetch the very revision that was loaded here.
    config = dataclasses.replace(
        _config(options, loaded.digest, intra_op), handle=loaded.handle, preprocessor=loaded.preprocessor
    )
    encoder = SharedEncoder(config)
    encoder.keep(loaded)
    return encoder


def _config(options: Options, model_digest: str | None, intra_op: int | None) -> ModelConfig:
    """The model's handle is the same for workers, which run in folders of their own."""
    from transforms.encoder.config import ModelConfig

    handle = options.model if options.model == MINILM else full_path(options.model)
    payload = {one.name: getattr(options, one.name) for one in stated(PayloadOptions)}
    payload["preprocessor"] = options.preprocessor and full_path(options.preprocessor)
    return ModelConfig(
        handle,
        options.signature,
        options.model_output,
        model_digest,
        options.modality,
        intra_op=intra_op,
        max_tokens=options.max_tokens,
        dim=options.dim,
        **payload,
    )


def taken_by(options: Options, loading: Future[HubEncoder]) -> Modality:
    """What documents are; where that is not plain, the model is waited for, which tells."""
    text = options.modality == "text" or (
        options.modality is None and (options.model == MINILM or options.preprocessor)
    )
    return TEXT if text else loading.result().modality
