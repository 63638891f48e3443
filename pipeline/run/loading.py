"""The model is loaded while the input is listed: two threads, and whoever is wrong first is heard first."""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import gc
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Generic, TypeVar

from pipeline.options.options import Options
from pipeline.run.screen import Screen
from transforms.encoder.model.handle import MINILM, resolve
from transforms.storage.files import full_path

if TYPE_CHECKING:
    from transforms.encoder.hub import HubEncoder
    from transforms.steps.encoder import SharedEncoder

_Result = TypeVar("_Result")
_THREAD = "embedbeam loads the model"
_imports = threading.Lock()


class Background(Generic[_Result]):
    """A call in a thread of its own, which a process need not wait for when it has failed otherwise."""

    def __init__(self, call: Callable[[], _Result]):
        self._future: Future[_Result] = Future()
        self._call = call
        self._thread = threading.Thread(target=self._run, daemon=True, name=_THREAD)
        atexit.register(self._thread.join)  # TensorFlow must not be cut off in the middle of its import
        self._thread.start()

    def _run(self) -> None:
        try:
            self._future.set_result(self._call())
        except BaseException as e:
            self._future.set_exception(e)
        finally:
            with contextlib.suppress(Exception):
                atexit.unregister(self._thread.join)

    def check(self) -> None:
        """Raises the call's error, if it has failed already."""
        if self._future.done():
            self._future.result()

    def result(self) -> _Result:
        return self._future.result()


def is_loading() -> bool:
    """Whether a model is still being loaded, for a run that has ended without it."""
    return any(thread.name == _THREAD for thread in threading.enumerate())


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
        if was:
            gc.enable()


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """One thread at a time imports TensorFlow or Beam: they share packages whose modules import each other in
    circles, which two threads may find half made. Nothing is lost, since imports hold Python's own lock."""
    with _imports, uncollected():
        yield


def start_loading(
    options: Options, screen: Screen, model_digest: str | None = None
) -> Background[HubEncoder]:
    """Begins to load the model. The caller may do something else meanwhile."""
    # In this thread, and not first in one that ends: see the pin of pyarrow in pyproject.toml.
    import pyarrow.parquet  # noqa: F401

    return Background(lambda: load_encoder(options, screen, model_digest))


def load_encoder(options: Options, screen: Screen, model_digest: str | None = None) -> HubEncoder:
    """Loads and checks the model here, before any worker starts.

    Raises:
      UsageError: the model cannot be used.
      ModelError: it is another one than the digest says.
    """
    handle = _handle(options)
    with screen.doing("fetching the model"):
        resolve(handle)
    with screen.doing("importing TensorFlow"), importing():
        from transforms.encoder.config import ModelConfig
        from transforms.encoder.device import import_tensorflow
        from transforms.encoder.hub import HubEncoder

        import_tensorflow()
        import tensorflow_hub  # noqa: F401
    with screen.doing("loading the model"), uncollected():
        return HubEncoder(ModelConfig(handle, options.signature, options.model_output, model_digest))


def shared_encoder(options: Options, loaded: HubEncoder) -> SharedEncoder:
    """What travels to the workers; those of this process share the model that is loaded here."""
    from transforms.encoder.config import ModelConfig
    from transforms.steps.encoder import SharedEncoder

    handle = _handle(options)
    # Workers on other machines must have the very same model.
    config = ModelConfig(handle, options.signature, options.model_output)
    encoder = SharedEncoder(dataclasses.replace(config, digest=loaded.digest))
    encoder.keep(loaded)
    return encoder


def _handle(options: Options) -> str:
    """The model's handle, the same for workers, which run in folders of their own."""
    return options.model if options.model == MINILM else full_path(options.model)
