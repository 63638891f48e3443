"""What the tests of models share."""

from pathlib import Path

import pytest
from models import save_hash_model


@pytest.fixture
def own_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models that a test fetches or makes go into folders of its own."""
    monkeypatch.setenv("EMBEDBEAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "tfhub"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(save_hash_model(tmp_path_factory.mktemp("model") / "hash"))
