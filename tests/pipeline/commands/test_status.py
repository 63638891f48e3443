"""status: how far a job is, from its files alone."""

import json
import re

import jobs


def test_after_the_end(finished, model, cli):
    code, out, err = cli("status", finished)
    assert (code, err) == (0, "")
    receipts, manifest = jobs.receipts(finished), jobs.manifest(finished)
    size = manifest["options"]["input_bytes"]
    lines = out.splitlines()
    assert lines[0] == "job         finished"
    assert lines[1] == f"model       {model} (8 float32, digest {manifest['model_digest'][:16]})"
    assert lines[2] == f"shards      {len(receipts)} of {len(receipts)} committed, 0 failed"
    assert lines[3] == f"input       {size:,} of {size:,} bytes (100%)"
    assert lines[4] == "documents   300 committed"
    assert lines[5].startswith("dead letters 9: ")
    for reason in ("blank text (3)", "not JSON (3)", "the model refuses it (3)"):
        assert reason in lines[5]
    assert re.fullmatch(r"rate        [\d,.]+ documents/s over the last \d+s of work", lines[6])
    assert len(lines) == 7


def test_in_between(copy_of, cli):
    (copy_of / "_SUCCESS").unlink()
    victim = jobs.receipts(copy_of)[0]
    (copy_of / "_embedbeam" / "receipts" / f"{victim['shard_id']}.json").unlink()
    plan = (copy_of / "_embedbeam" / "plan.jsonl").read_text().splitlines()[1:]
    _, out, _ = cli("status", copy_of)
    lines = out.splitlines()
    assert lines[0] == "job         stopped before its end; run the same command again to go on"
    assert lines[2] == f"shards      {len(plan) - 1} of {len(plan)} committed, 0 failed"
    left = next(json.loads(line) for line in plan if victim["shard_id"] in line)
    whole = jobs.manifest(copy_of)["options"]["input_bytes"]
    done = whole - sum(piece[-1] for piece in left["slices"])
    assert lines[3] == f"input       {done:,} of {whole:,} bytes ({done / whole:.0%})"
    assert lines[4] == f"documents   {300 - victim['documents']} committed"


def test_before_the_first_shard(copy_of, cli):
    (copy_of / "_SUCCESS").unlink()
    for path in (copy_of / "_embedbeam" / "receipts").iterdir():
        path.unlink()
    (copy_of / "_embedbeam" / "run.json").unlink()
    code, out, err = cli("status", copy_of)
    assert (code, err) == (0, "")
    assert out.splitlines()[4:] == ["documents   0 committed", "dead letters 0"]


def test_a_plan_that_is_none(copy_of, cli):
    (copy_of / "_embedbeam" / "plan.jsonl").write_text("{}\n")
    for command in ("status", "verify"):
        code, out, err = cli(command, copy_of)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "not a plan of this version of embedbeam" in err
