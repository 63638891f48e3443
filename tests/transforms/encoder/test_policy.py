from pathlib import Path

import pytest

from transforms.encoder import policy
from transforms.encoder.device import available_cores
from transforms.encoder.policy import GIB, Threads


@pytest.mark.parametrize(
    ("device", "memory", "tokens"),
    [
        ("CPU", None, 1000),
        ("CPU", 64 * GIB, 1000),
        ("GPU", None, 16384),
        ("GPU", 1 * GIB, 4096),
        ("GPU", 8 * GIB, 16384),
        ("GPU", 15 * GIB, 16384),
        ("GPU", 16 * GIB, 32768),
        ("GPU", 40 * GIB, 65536),
        ("GPU", 80 * GIB, 131072),
        ("GPU", 192 * GIB, 131072),
    ],
)
def test_default_batch_tokens(device: str, memory: int | None, tokens: int) -> None:
    assert policy.default_batch_tokens(device, memory) == tokens


@pytest.mark.parametrize(
    ("cores", "device", "threads"),
    [
        (1, "CPU", Threads(1, 1)),
        (2, "CPU", Threads(2, 1)),
        (16, "CPU", Threads(16, 1)),
        (1, "GPU", Threads(2, 0)),
        (16, "GPU", Threads(2, 0)),
    ],
)
def test_threads(cores: int, device: str, threads: Threads) -> None:
    assert policy.threads(cores=cores, device=device) == threads


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("150000 100000", 2), ("50000 100000", 1), ("max 100000", 64), ("6400000 100000", 64), (None, 64)],
)
def test_cores_of_a_container(
    quota: str | None, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(64)))
    file = tmp_path / "cpu.max"
    if quota is not None:
        file.write_text(quota + "\n")
    assert available_cores(str(file)) == cores
