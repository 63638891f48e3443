"""Every step and every DoFn reaches a worker as it was made."""

import dataclasses
import importlib
import pickle
import pkgutil
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.internal.cloudpickle import cloudpickle
from fakes import document, load_fake, one_run, pieces, whole

import transforms
from transforms.elements import (
    ABSENT,
    DeadLetter,
    Document,
    Embedding,
    EndOfShard,
    Origin,
    Shard,
    ShardFailed,
    ShardReceipt,
    Slice,
)
from transforms.embed_documents import EmbedDocuments, _BlockFn
from transforms.encoder.config import ModelConfig
from transforms.encoder.hub import HubEncoder
from transforms.errors import BadFileError, LedgerError, ModelError, UsageError
from transforms.formats.base import ReadOptions
from transforms.output.schema import RowSchema
from transforms.steps.batch import BatchByTokens, OrderByLength, _OpenFn, _OrderFn
from transforms.steps.chain import EmbedBlocks
from transforms.steps.chunk import ChunkDocuments, _ChunkFn
from transforms.steps.config import EmbedConfig
from transforms.steps.copies import CopiesConfig, KeepFirst, MarkCopies, ShardsWithCopies, _CopiesFn, _FirstFn
from transforms.steps.embed import EmbedMiniBatches, _EmbedFn
from transforms.steps.encoder import SharedEncoder
from transforms.steps.find_copies import FindCopies, _PrintsFn
from transforms.steps.join import InFiles, JoinKnown, _EarlierFn, _FingerprintsFn, _KeepFn
from transforms.steps.merge import MergeChunks, _MergeFn
from transforms.steps.open import OpenShards
from transforms.steps.read import ReadShards, _ReadFn
from transforms.steps.reuse import Earlier, FindKnown, ReuseConfig, TakeKnown, _FindFn, _TakeFn, in_indexes
from transforms.steps.shards import ReadConfig
from transforms.steps.take_over import TakeOverShards, _TakeOverFn
from transforms.steps.write import WriteConfig, WriteShards, _WriteFn

ENCODER = SharedEncoder(ModelConfig("m", "s", "o", "d"))
EMBED = EmbedConfig("chunks", 3, 128, 500, "float16", True, 9)
READ = ReadConfig(ReadOptions("body", "id", ("year",), (("year", "int64"),)), True, "out", "j", b"key")
WRITE = WriteConfig(
    "out", "j", "tfrecord", RowSchema(3, "float16", True, True, (("y", "int64"),)), {"k": "v"}, True
)

REUSE = ReuseConfig((Earlier("old", "k", True),), True, joined=True, buckets=16)
COPIES = CopiesConfig("out", True)

STEPS: list[Any] = [
    *(OpenShards(READ), ReadShards(READ), ChunkDocuments(ENCODER, EMBED), OrderByLength(7, 9)),
    *(BatchByTokens(7), EmbedMiniBatches(ENCODER, EMBED), MergeChunks(ENCODER, EMBED), WriteShards(WRITE)),
    EmbedBlocks(ENCODER, EMBED),
    EmbedDocuments("m", "s", "o", "truncate", 1, 2, 3),
    *(FindKnown(REUSE, InFiles("out", REUSE)), TakeKnown(REUSE), TakeOverShards(REUSE, "out", "j")),
    *(JoinKnown(READ, REUSE), FindCopies(READ, 16, True)),
    *(MarkCopies(COPIES), ShardsWithCopies(COPIES), KeepFirst(COPIES)),
]
DOFNS: list[Any] = [
    *(_ReadFn(READ), _ChunkFn(ENCODER, EMBED), _OrderFn(7, 9), _OpenFn()),
    *(_EmbedFn(ENCODER, EMBED), _MergeFn(ENCODER, EMBED), _WriteFn(WRITE)),
    _BlockFn("text"),
    *(_FindFn(REUSE, in_indexes), _TakeFn(REUSE), _TakeOverFn(REUSE, "out", "j"), _KeepFn("out", "j", REUSE)),
    *(_FingerprintsFn(READ, REUSE), _EarlierFn(REUSE), _PrintsFn(READ, 16, True)),
    *(_CopiesFn(COPIES), _FirstFn(COPIES)),
]


def described(value: Any) -> Any:
    """A value's type and contents, all the way down."""
    if isinstance(value, beam.utils.shared.Shared):
        return value._key
    if isinstance(value, SharedEncoder | beam.PTransform | beam.DoFn):
        return type(value), {name: described(v) for name, v in vars(value).items()}
    return value


def modules() -> list[Any]:
    names = [m.name for m in pkgutil.walk_packages(transforms.__path__, "transforms.")]
    return [importlib.import_module(name) for name in names]


def test_the_lists_are_complete() -> None:
    own = {
        value
        for module in modules()
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, beam.PTransform | beam.DoFn)
        and value.__module__.startswith("transforms.")
    }
    assert own == {type(value) for value in (*STEPS, *DOFNS)}


@pytest.mark.parametrize("value", [*STEPS, *DOFNS, ENCODER], ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("library", [pickle, cloudpickle])
def test_round_trip(value: Any, library: Any) -> None:
    copy = library.loads(library.dumps(value))
    assert described(copy) == described(value)


DOCUMENT = Document("d", "t", {"k": 1})
ORIGIN = Origin(DOCUMENT, 3, "w")


@pytest.mark.parametrize(
    "value",
    [
        *(EMBED, READ, WRITE, ENCODER.config, WRITE.schema, Slice("p", "s", "txt"), DOCUMENT),
        *(Shard("s", (Slice("p", "s", "txt", 1, 2, 3, 4.5, 6, 7),)), EndOfShard("s", 1)),
        *(
            DeadLetter("d", "s", 1, "read", "why", "detail", "p", 2, ORIGIN),
            ShardFailed("s", "f", None, "why"),
        ),
        *(ORIGIN, ShardReceipt("j", "s", 1, 1, {}, 1, 0, "p", 2, "x", None, 1, 2, "h", 3)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_elements_and_configs(value: Any) -> None:
    copy = pickle.loads(pickle.dumps(value))
    assert copy == value
    assert dataclasses.asdict(copy) == dataclasses.asdict(value)  # origins, which == leaves out


def test_blocks() -> None:
    """Elements cross no stage boundary; where a runner makes one all the same, they arrive as they were."""
    window = whole(document(0, "a", origin=(3, "w")), document(1, "b", origin=(4, "w")), costs=[3, 5])
    run = pickle.loads(pickle.dumps(one_run(window, [1])))
    assert pieces(run.window, run.chunks.tolist()) == pieces(window, [1])
    assert run.window.documents.origins == window.documents.origins
    assert pickle.loads(pickle.dumps(ABSENT)) is ABSENT


def test_a_row() -> None:
    import numpy as np

    row = pickle.loads(
        pickle.dumps(Embedding(DOCUMENT, np.arange(3, dtype=np.float32), 5, 1, 0, 2, 4, False, ORIGIN))
    )
    assert (row.document, row.vector.tolist(), row.origin) == (DOCUMENT, [0, 1, 2], ORIGIN)
    assert (row.tokens, row.tokens_dropped, row.chunk, row.start, row.end, row.last) == (5, 1, 0, 2, 4, False)


@pytest.mark.parametrize(
    "error", [UsageError("u"), ModelError("m"), LedgerError("l"), BadFileError("a.gz", 7, "truncated")]
)
def test_errors(error: Exception) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))


def test_a_loaded_model_does_not_travel_and_its_copies_share_one() -> None:
    loads = []

    def load(config: ModelConfig) -> Any:
        loads.append(config)
        return load_fake(config)

    shared = SharedEncoder(ModelConfig("m"), load)
    shared.keep(load(ModelConfig("m")))
    assert "_kept" not in shared.__getstate__()
    copy = SharedEncoder.__new__(SharedEncoder)
    copy.__dict__.update(shared.__getstate__())
    assert copy.acquire() is shared.acquire()
    assert loads == [ModelConfig("m")]
    assert SharedEncoder(ModelConfig("m"))._load is HubEncoder
