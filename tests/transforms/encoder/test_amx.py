"""Products of bfloat16 numbers on processors that show their matrix instructions whole, by half or not."""

import os

import jobs
import pytest

from transforms.encoder import amx

PRODUCT = """
from transforms.encoder.device import import_tensorflow
tf = import_tensorflow()
ones = tf.ones([64, 384], tf.bfloat16)
print(float(tf.function(tf.matmul)(ones, ones, transpose_b=True)[0, 0]))
"""


@pytest.mark.slow
def test_a_product_of_bfloat16_ends_no_process():
    done = jobs.run(jobs.PYTHON, "-c", PRODUCT)
    assert (done.returncode, done.stdout) == (0, "384.0\n"), done.stderr


@pytest.mark.parametrize(
    ("flags", "described", "said", "limit"),
    [
        ("avx2 avx512f", False, None, None),
        ("avx512f amx_bf16 amx_tile", True, None, None),
        ("avx512f amx_bf16 amx_tile", False, None, "AVX512_CORE_FP16"),
        ("avx512f amx_bf16 amx_tile", False, "AVX2", "AVX2"),
    ],
)
def test_amx_is_left_alone_where_no_tiles_are_told(flags, described, said, limit, tmp_path, monkeypatch):
    (tmp_path / "cpuinfo").write_text(f"model name\t: some\nflags\t\t: fpu {flags}\n")
    monkeypatch.setattr(amx, "describes_tiles", lambda: described)
    monkeypatch.setattr(os, "environ", {} if said is None else {"ONEDNN_MAX_CPU_ISA": said})
    amx.avoid_broken_amx(str(tmp_path / "cpuinfo"))
    assert os.environ.get("ONEDNN_MAX_CPU_ISA") == limit


def test_without_a_file_that_tells_nothing_is_limited(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "environ", {})
    amx.avoid_broken_amx(str(tmp_path / "none"))
    assert os.environ == {}
