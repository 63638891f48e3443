"""Two jobs and one folder: what a late worker of the earlier one leaves never becomes the later one's."""

import jobs
import pytest

from pipeline import embed
from transforms.elements import EndOfShard
from transforms.errors import LedgerError
from transforms.output import layout, plan_file
from transforms.output.folder import Folder
from transforms.output.reader import open_output
from transforms.output.shard import ShardWriter, WriteConfig


@pytest.fixture
def two(tmp_path, model, save_model):
    """Two jobs over one input, with other models: the first one's folder, the second's options and output."""
    jobs.write_jsonl(tmp_path / "in.jsonl", jobs.documents(60))
    options = {"input": f"{tmp_path}/in.jsonl", "id_field": "id", "shard_bytes": 500}
    second = options | {"model": save_model(window=8)}
    embed(output=str(tmp_path / "out"), model=model, **options)
    embed(output=str(tmp_path / "wanted"), **second)
    return tmp_path / "out", second, tmp_path / "wanted"


def stopped_after_its_plan(output, other):
    """Puts the plan of another job into a folder, and nothing else of it."""
    folder, state = Folder(str(output)), output / layout.STATE
    for path in [*state.rglob("*.json"), output / layout.SUCCESS, *output.glob("part-*")]:
        path.unlink()
    folder.write(layout.PLAN, Folder(str(other)).read(layout.PLAN))


def test_a_late_worker_of_the_first_job_commits_nothing_in_the_second(two):
    output, second, wanted = two
    folder = Folder(str(output))
    first = open_output(str(output))
    late = ShardWriter(
        first.receipts[0].shard_id,
        folder,
        WriteConfig(str(output), first.plan.job, "parquet", first.schema, {}),
    )
    stopped_after_its_plan(output, wanted)
    with pytest.raises(LedgerError, match="the folder belongs to another job now"):
        late.commit(EndOfShard(late.shard_id, 0))
    assert embed(output=str(output), **second).rows == 60
    assert jobs.files(output) == jobs.files(wanted)


@pytest.mark.parametrize("all_of_them", [False, True])
def test_receipts_and_parts_of_the_first_job_are_embedded_anew(two, all_of_them, cli):
    """However they came there: they are not the second job's, whose command makes them so in one run."""
    output, second, wanted = two
    kept = [*output.glob("part-*"), *(output / layout.RECEIPTS).iterdir()]
    contents = {path: path.read_bytes() for path in kept}
    receipts = sorted(path for path in kept if path.suffix == ".json")
    stopped_after_its_plan(output, wanted)
    some = receipts if all_of_them else receipts[:1]
    for path in contents:
        if path in some or path.suffix == ".parquet":
            path.write_bytes(contents[path])
    code, out, err = cli("status", output)
    assert f"0 of {len(receipts)} committed" in out
    code, out, err = cli("finish", output)
    assert code == 1
    assert f"{len(some)} receipts are of another job" in err
    code, out, err = cli("verify", output)
    assert out.count("is of another job") == len(some)
    assert embed(output=str(output), **second).rows == 60
    assert jobs.files(output) == jobs.files(wanted)
    assert {r["job"] for r in jobs.receipts(output)} == {plan_file.job_of(Folder(str(output)))}
    assert cli("verify", output)[0] == 0
