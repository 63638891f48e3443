"""Runs in an environment with mteb: a tiny task of its own, through a model of ours; prints what mteb found.

python tests/mteb_task.py MODEL CACHE
"""

import json
import sys
from pathlib import Path

import mteb
from datasets import Dataset, DatasetDict
from mteb.abstasks.classification import AbsTaskClassification
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.sts import AbsTaskSTS
from mteb.abstasks.task_metadata import TaskMetadata

import embedbeam

ABOUT = {
    "description": "in memory",
    "reference": None,
    "dataset": {"path": "none", "revision": "1"},
    "category": "t2t",
    "modalities": ["text"],
    "eval_splits": ["test"],
    "eval_langs": ["eng-Latn"],
    "date": ("2024-01-01", "2024-01-02"),
    "domains": [],
    "task_subtypes": [],
    "license": "not specified",
    "annotations_creators": "derived",
    "dialect": [],
    "sample_creation": "created",
    "bibtex_citation": "",
}
DOCUMENTS = {f"d{i}": f"text number {i}" for i in range(12)}
# Of three pairs the texts are the same: these are the most similar ones, in whichever model.
PAIRS = [(f"one {i}", f"one {i}" if i < 3 else f"other {i}", 1.0 if i < 3 else 0.0) for i in range(8)]


class TinyRetrieval(AbsTaskRetrieval):
    metadata = TaskMetadata(name="TinyRetrieval", type="Retrieval", main_score="ndcg_at_10", **ABOUT)

    def load_data(self, **kwargs):
        corpus = Dataset.from_list([{"id": i, "title": "", "text": text} for i, text in DOCUMENTS.items()])
        queries = Dataset.from_list([{"id": f"q{i}", "text": text} for i, text in DOCUMENTS.items()])
        relevant = {f"q{i}": {i: 1} for i in DOCUMENTS}
        data = {"corpus": corpus, "queries": queries, "relevant_docs": relevant, "top_ranked": None}
        self.dataset = {"default": {"test": data}}
        self.data_loaded = True


class TinySTS(AbsTaskSTS):
    metadata = TaskMetadata(name="TinySTS", type="STS", main_score="cosine_spearman", **ABOUT)
    min_score, max_score = 0, 1

    def load_data(self, **kwargs):
        rows = [{"sentence1": a, "sentence2": b, "score": score} for a, b, score in PAIRS]
        self.dataset = DatasetDict({"test": Dataset.from_list(rows)})
        self.data_loaded = True


class TinyClassification(AbsTaskClassification):
    metadata = TaskMetadata(name="TinyClassification", type="Classification", main_score="accuracy", **ABOUT)
    samples_per_label, n_experiments = 4, 2

    def load_data(self, **kwargs):
        rows = [{"text": f"the class {i % 2}", "label": i % 2} for i in range(16)]
        self.dataset = DatasetDict({"train": Dataset.from_list(rows), "test": Dataset.from_list(rows)})
        self.data_loaded = True


def main():
    model = embedbeam.MtebEncoder(sys.argv[1])
    tasks = [TinyRetrieval(), TinySTS(), TinyClassification()]
    cache = mteb.ResultCache(Path(sys.argv[2]))
    found = mteb.evaluate(model, tasks, cache=cache, show_progress_bar=False, co2_tracker=False)
    meta = model.mteb_model_meta
    scores = {result.task_name: result.get_score() for result in found}
    protocol = isinstance(model, mteb.models.EncoderProtocol)
    print(json.dumps({"scores": scores, "name": meta.name, "revision": meta.revision, "protocol": protocol}))


if __name__ == "__main__":
    main()
