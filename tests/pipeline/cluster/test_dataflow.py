"""The Dataflow job, built and read offline, and `finish`, which ends a job that nobody waited for."""

import json
import types

import jobs
import pytest
from apache_beam.runners.dataflow.internal import apiclient

from pipeline import cli as command_line
from pipeline.cluster import runners
from pipeline.cluster import submit as sending
from pipeline.cluster.cluster import Cluster, resolve
from pipeline.options.options import Options
from pipeline.run import signals, submit

SECRET = "TOPSECRET-of-the-test"
IMAGE = "europe-docker.pkg.dev/project-x/images/embedbeam:1"
GPU = "worker_accelerator=type:nvidia-tesla-t4;count:1;install-nvidia-driver"
FLAGS = [
    "--runner=DataflowRunner",
    "--shared-filesystem",
    "--dry_run=True",
    "--project=project-x",
    "--region=europe-west1",
    "--temp_location=gs://bucket-x/tmp",
    "--staging_location=gs://bucket-x/staging",
    "--no_auth",
    f"--sdk_container_image={IMAGE}",
    f"--dataflow_service_options={GPU}",
    "--worker_machine_type=n1-standard-8",
    "--labels=team=search",
]


@pytest.fixture(scope="module")
def built(tmp_path_factory, corpus, model):
    """The job of a dry run: its output folder, what Dataflow would be asked for, and its pipeline."""
    output = tmp_path_factory.mktemp("dataflow") / "Vectors 2024"
    made = []
    make = Cluster.make_runner
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setattr(Cluster, "make_runner", lambda cluster: made.append(make(cluster)) or made[-1])
        patch.setattr(signals, "on_signals", lambda *_, **__: None)
        patch.setattr(command_line, "on_signals", lambda *_: None)
        arguments = [f"--input={corpus}", f"--output={output}", f"--model={model}", *jobs.FLAGS, *FLAGS]
        assert command_line.main(["embed", *arguments]) == 0
    (runner,) = made
    job = runner.job
    # Beam fills this in when it sends a job, from the same options and the same pipeline.
    job.proto.environment = apiclient.Environment(
        packages=[],
        options=job.options,
        environment_version="8",
        proto_pipeline_staged_url="gs://bucket-x/staging/pipeline.pb",
        proto_pipeline=job.proto_pipeline,
    ).proto
    return output, json.loads(str(job.json())), job.proto_pipeline


def steps(pipeline):
    """Name, kind and input of each step that does something, in the order of the data."""
    found = [t for t in pipeline.components.transforms.values() if t.spec.urn and not t.subtransforms]
    after = {next(iter(t.inputs.values()), None): t for t in found}
    assert len(after) == len(found)  # no collection is read twice: one chain
    chain, here = [], None
    while here in after:
        step = after[here]
        chain.append((step.unique_name, step.spec.urn.split(":")[2]))
        (here,) = step.outputs.values()
    assert len(chain) == len(found)
    return chain


def test_one_shuffle_of_shards_and_then_one_chain(built):
    chain = steps(built[2])
    shuffles = [index for index, (_, kind) in enumerate(chain) if kind != "pardo"]
    assert [chain[index][1] for index in shuffles] == ["impulse", "group_by_key"]
    before, after = chain[: shuffles[1]], chain[shuffles[1] + 1 :]
    assert {name.split("/")[0] for name, _ in before} == {"OpenShards"}
    assert "OpenShards/Open shards" in dict(before)
    ours = [name for name, _ in after if not name.startswith("OpenShards/Reshuffle/")]
    assert list(dict.fromkeys(name.removeprefix("EmbedBlocks/").split("/")[0] for name in ours)) == [
        "ReadShards",
        "ChunkDocuments",
        "OrderByLength",
        "BatchByTokens",
        "EmbedMiniBatches",
        "MergeChunks",
        "WriteShards",
    ]


def test_what_the_workers_are(built):
    output, job, _ = built
    environment = job["environment"]
    options = environment["sdkPipelineOptions"]["options"]
    (pool,) = environment["workerPools"]
    assert job["name"] == runners.job_name(str(output))
    assert job["name"].startswith("embedbeam-vectors-2024-")
    assert job["labels"]["team"] == "search"
    assert pool["machineType"] == "n1-standard-8"
    assert pool["numThreadsPerWorker"] == 2
    assert [image["containerImage"] for image in pool["sdkHarnessContainerImages"]] == [IMAGE]
    assert "no_use_multiple_sdk_containers" in environment["experiments"]
    assert GPU in options["dataflow_service_options"]
    assert options["number_of_worker_harness_threads"] == 2
    assert options["sdk_location"] == "container"
    assert options["save_main_session"] is False
    assert "setup_file" not in options  # the package is in the image


def test_no_secret_and_nothing_written(built):
    output, job, pipeline = built
    assert SECRET not in json.dumps(job)
    assert SECRET.encode() not in pipeline.SerializeToString()
    assert not output.exists()


def test_the_launcher_does_not_wait(monkeypatch):
    """Only the service gives a job an id: its answer and the pipeline are stand-ins here."""

    def wait_until_finish():
        raise AssertionError("waited")

    answer = types.SimpleNamespace(has_job=True, job_id=lambda: "id-1", wait_until_finish=wait_until_finish)
    pipeline = types.SimpleNamespace(run=lambda: answer, local_tempdir="none")
    monkeypatch.setattr(sending, "beam", types.SimpleNamespace(Pipeline=lambda **_: pipeline))
    monkeypatch.setattr(submit, "build_pipeline", lambda *_: None)
    flags = tuple(flag for flag in FLAGS if flag.startswith("--") and "runner" not in flag)[2:]
    options = Options(input=("gs://b/x",), output="gs://b/o", runner="DataflowRunner", beam_args=flags)
    assert submit.submit(None, resolve(options)) == "id-1"


def unfinished(output):
    (output / "_SUCCESS").unlink()
    (output / "_embedbeam" / "manifest.json").unlink()
    return output


def test_finish(copy_of, finished, cli):
    before = jobs.files(copy_of)
    code, out, err = cli("finish", unfinished(copy_of), "--max-dead-letters=10%")
    assert (code, err) == (0, "")
    assert "embedded 291 of 300 documents" in out
    assert (copy_of / "_SUCCESS").read_bytes() == b""
    changing = ("output", "wall_seconds", "finished")
    manifests = [
        {k: v for k, v in jobs.manifest(o).items() if k not in changing} for o in (copy_of, finished)
    ]
    assert manifests[0] == manifests[1]
    assert jobs.files(copy_of) == before
    assert cli("verify", copy_of)[0] == 0
    assert cli("finish", copy_of, "--max-dead-letters=10%")[0] == 0  # a second one changes nothing


def check_not_finished(output, result, text):
    code, out, err = result
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert text in err
    assert not (output / "_SUCCESS").exists()
    assert not (output / "_embedbeam" / "manifest.json").exists()


def test_finish_with_a_shard_missing(copy_of, cli):
    shard = jobs.receipts(unfinished(copy_of))[0]["shard_id"]
    (copy_of / "_embedbeam" / "receipts" / f"{shard}.json").unlink()
    result = cli("finish", copy_of, "--max-dead-letters=10%")
    text = f"1 shards of the plan have no receipt, and 0 receipts have no shard, e.g. {shard}; run the same "
    check_not_finished(copy_of, result, text)


def test_finish_with_too_many_dead_letters(copy_of, cli):
    result = cli("finish", unfinished(copy_of))
    text = "9 of 300 documents are dead letters, more than --max-dead-letters 1% allows (3). "
    check_not_finished(copy_of, result, text)


def test_finish_where_no_job_is(tmp_path, cli):
    code, _, err = cli("finish", tmp_path)
    assert (code, err) == (
        2,
        f"embedbeam: error: {tmp_path}: no job here: expected the output folder of `embedbeam embed`\n",
    )
    assert list(tmp_path.iterdir()) == []
