"""The current output in a store: one small object, swapped if nobody else did, and readers that follow it."""

import json
import re
import shutil

import outputs
import publishing
import pytest
import stores
from apache_beam.options.pipeline_options import PipelineOptions

from pipeline.publish import publish, rollback
from transforms.errors import UsageError
from transforms.output import pointer
from transforms.output.reader import open_output
from transforms.storage import objects
from transforms.storage.files import use_options

pytestmark = [pytest.mark.stores, pytest.mark.slow]
NAMES = ("v1", "v2", "v3")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    return {name: outputs.make(folder / name, per_shard=4, prompt=name) for name in NAMES}


@pytest.fixture(scope="module", params=["s3", "gs", "az"])
def server(request):
    with stores.server(request.param) as store:
        yield store


@pytest.fixture
def store(server, made):
    """A store with the outputs v1, v2 and v3 below `all`."""
    use_options(PipelineOptions(server.flags()))
    server.clear()
    for name in NAMES:
        server.put_folder(f"all/{name}", made[name].path)
    yield server
    use_options(PipelineOptions([]))


def ids(output):
    return sorted(row["doc_id"] for block in output.rows(["doc_id"]) for row in block.to_pylist())


def test_published_and_back(store, made):
    current, urls = store.url("all/current"), {name: store.url(f"all/{name}") for name in NAMES}
    for name in NAMES:
        told = publish(urls[name], f"{current}/", 5)
    assert (told["output"], told["previous"]) == (urls["v3"], urls["v2"])
    assert told["remembered"] == [urls["v2"], urls["v1"]]
    assert publish(urls["v3"], current, 5)["changed"] is False
    output = open_output(current)
    there = store.objects()
    assert [key for key in there if "current" in key] == ["all/current/_published.json"]
    record = json.loads(there["all/current/_published.json"])
    assert [(one["output"], one["job"]) for one in record["history"]] == [
        (name, made[name].job) for name in NAMES
    ]
    assert rollback(current)["output"] == urls["v2"]
    assert ids(open_output(current)) == ids(open_output(str(made["v2"].path)))
    assert ids(output) == ids(open_output(str(made["v3"].path)))  # opened before, and stays there
    for key, data in store.objects().items():  # mirrored elsewhere
        store.put(key.replace("all/", "copy/", 1), data)
    assert open_output(store.url("copy/current")).folder.path == store.url("copy/v2")
    assert rollback(store.url("copy/current"))["output"] == store.url("copy/v1")
    with pytest.raises(UsageError, match=r"only .*copy/v1 is remembered; there is nothing to go back to"):
        rollback(store.url("copy/current"))
    publish(urls["v3"], store.url("elsewhere/current"), 5)
    assert open_output(store.url("elsewhere/current/")).folder.path == urls["v3"]


def test_mistakes(store, made, tmp_path):
    current, v1 = store.url("all/current"), store.url("all/v1")
    publish(store.url("all/v2"), current, 5)
    store.put("all/data/x.csv", b"1")
    shutil.copytree(made["v1"].path, tmp_path / "v1")
    for output, to, words in (
        (v1, store.url("all/v2"), "v2: nothing can be published there: is the output folder of a job"),
        (v1, store.url("all/data"), "data: nothing can be published there: holds x.csv"),
        (v1, store.url(""), "nothing can be published there: is a whole bucket"),
        (v1, store.url("all/v1/now"), "lies in the output folder"),
        (current, f"{current}/", "is the very name to publish under"),
        (store.url("all/v9"), current, "v9: no job here"),
        (
            str(tmp_path / "v1"),
            current,
            "is on this machine, --to .* in a store; expected both in the same place",
        ),
        (v1, str(tmp_path / "current"), "is in a store, --to .* on this machine"),
    ):
        with pytest.raises(UsageError, match=words):
            publish(output, to, 5)
    publish(v1, current, 5)
    for key in store.objects():
        if key.startswith("all/v1/") or key == "all/v2/_SUCCESS":
            objects.delete_object(store.url(key))
    gone = re.escape(
        f"{current}: the current output is {v1}, which is gone; put it back, or publish another one"
    )
    with pytest.raises(UsageError, match=gone):
        open_output(current)
    with pytest.raises(UsageError, match="v2: the job has not finished"):
        rollback(current)
    store.put("all/current/_published.json", b"{}")
    with pytest.raises(UsageError, match=r"_published\.json: not what `embedbeam publish` writes"):
        open_output(current)


def test_an_answer_that_was_lost(store, monkeypatch):
    """A swap that the store made and did not confirm is found by its token, on the next try."""
    current = store.url("all/current")
    publish(store.url("all/v1"), current, 5)
    kind = type(objects._client(store.scheme, "bucket"))
    swap, lost = kind.swap, []

    def once(client, key, data, version):
        swap(client, key, data, version)
        if not lost:
            lost.append(key)
            raise ConnectionError("no answer")

    monkeypatch.setattr(kind, "swap", once)
    told = publish(store.url("all/v2"), current, 5)
    assert (lost, told["remembered"]) == (["all/current/_published.json"], [store.url("all/v1")])
    assert pointer.read(current).history[-1].output == "v2"


def test_publishers_at_once(store):
    """Both have read the pointer before one swaps it: one wins, the other is told; a third is killed."""
    current, urls = store.url("all/current"), [store.url(f"all/{name}") for name in NAMES]
    history = []
    with publishing.publishers(3, current, store.flags()) as (*some, victim):
        for turn in range(4):
            others = [url for url in urls if url not in history[-1:]]
            if turn == 1:
                victim.begin(others[0])
                victim.wait()
                victim.kill()
            wanted = ["" if len(history) > 1 else others[0], others[1]]
            told = publishing.all_at_once(some, wanted)
            (won,) = [i for i, one in enumerate(told) if "error" not in one]
            assert told[1 - won]["error"].startswith(f"{current}: another publish or rollback was faster")
            history = [*history, wanted[won]] if wanted[won] else history[:-1]
            found = pointer.read(current)
            assert [found.folder(one).path for one in found.history] == history
            assert open_output(current).folder.path == history[-1]
