"""A sample of the user's documents through the job's own chain."""

import image_models
import jobs
import pictures
import pytest

from pipeline.options.options import Options
from pipeline.tune import trial
from pipeline.tune.search import Setting
from transforms.encoder.config import ModelConfig
from transforms.encoder.hub import HubEncoder
from transforms.errors import UsageError
from transforms.modality.text import TEXT


@pytest.fixture
def options(tmp_path):
    """4,000 documents in 40 slices, and a file that is broken."""
    for name in "ab":
        records = [{"body": f"{name} {i} " + "word " * (i % 10)} for i in range(2000)]
        jobs.write_jsonl(tmp_path / "in" / f"{name}.jsonl", records)
    (tmp_path / "in" / "c.parquet").write_bytes(b"no Parquet")
    made = Options(input=str(tmp_path / "in"), output="-", text_field="body", shard_bytes=5000)
    yield made
    trial._sample.clear()


def sampled():
    return [text for block in trial._sample for text in block.payloads.to_pylist()]


def test_a_sample_comes_from_all_over_the_input_the_same_each_time(options):
    assert trial.draw_sample(options, TEXT, 400) == 400
    first = sampled()
    numbers = {name: [int(t.split()[1]) for t in first if t.startswith(name)] for name in "ab"}
    for found in numbers.values():
        assert len({number // 200 for number in found}) >= 8  # of ten tenths
    assert trial.draw_sample(options, TEXT, 400) == 400
    assert sampled() == first


def test_of_a_small_input_all_is_taken(options):
    assert trial.draw_sample(options, TEXT, 10**6) == 4000
    assert len(set(sampled())) == 4000


def test_a_field_that_is_not_there_is_named(options):
    import dataclasses

    wrong = dataclasses.replace(options, text_field="title", input=(options.input[0] + "/a.jsonl",))
    with pytest.raises(UsageError, match=r"missing field 'title'.*--text-field \(now title\)"):
        trial.draw_sample(wrong, TEXT, 10)


def test_a_trial_counts_what_went_through_the_model(options, model):
    trial.draw_sample(options, TEXT, 300)
    loaded = HubEncoder(ModelConfig(model))
    found = trial.run_trial(options, loaded, Setting(100, 2, 1))
    tokens = sum(len(text.split()) for text in sampled())
    assert (found.documents, found.tokens, found.ran_out) == (300, tokens, False)
    assert found.mini_batches >= tokens / 100
    assert 0 < found.median <= found.p95 <= found.seconds
    assert found.tokens_per_second == pytest.approx(tokens / found.seconds)
    assert 0 <= found.waited < 1
    assert found.peak_bytes > 50 << 20
    larger = trial.run_trial(options, loaded, Setting(800, 1, 1))
    assert (larger.documents, larger.tokens) == (300, tokens)
    assert larger.mini_batches < found.mini_batches


def test_memory_that_runs_out_in_the_model_is_told(options, save_model):
    trial.draw_sample(options, TEXT, 300)
    loaded = HubEncoder(ModelConfig(save_model(fits=20)))
    assert not trial.run_trial(options, loaded, Setting(20, 2, 1)).ran_out
    assert trial.run_trial(options, loaded, Setting(400, 2, 1)).ran_out
    assert not trial.run_trial(options, loaded, Setting(20, 2, 1)).ran_out  # each begins anew


def test_images_go_through_the_same_trial(tmp_path):
    """They are decoded beside the model, and costed by it."""
    (tmp_path / "in").mkdir()
    for number in range(40):
        (tmp_path / "in" / f"{number}.jpg").write_bytes(pictures.jpeg(number, 60, 40))
    (tmp_path / "in" / "bad.jpg").write_bytes(pictures.jpeg(1, 60, 40)[:500])
    loaded = HubEncoder(ModelConfig(image_models.save_small(tmp_path / "m")))
    options = Options(input=str(tmp_path / "in"), output="-")
    assert trial.draw_sample(options, loaded.modality, 100) >= 40
    each = int(loaded.estimate([pictures.jpeg(1, 60, 40)])[0])
    found = trial.run_trial(options, loaded, Setting(4 * each, 2, 1))
    assert found.documents >= 40
    assert found.mini_batches >= 10
    assert found.tokens >= 40 * each
    trial._sample.clear()
