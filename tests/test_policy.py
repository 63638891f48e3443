import pytest

from transforms.encoder import policy
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
    ("cores", "device", "runner_threads", "threads"),
    [
        (1, "CPU", 1, Threads(1, 1)),
        (2, "CPU", 1, Threads(2, 1)),
        (3, "CPU", 1, Threads(2, 1)),
        (16, "CPU", 1, Threads(2, 8)),
        (16, "CPU", 4, Threads(1, 4)),
        (4, "CPU", 12, Threads(1, 1)),
        (1, "GPU", 1, Threads(2, 0)),
        (16, "GPU", 1, Threads(2, 0)),
        (16, "GPU", 4, Threads(1, 0)),
    ],
)
def test_threads(cores: int, device: str, runner_threads: int, threads: Threads) -> None:
    assert policy.threads(cores=cores, device=device, runner_threads=runner_threads) == threads
