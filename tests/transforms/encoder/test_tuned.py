"""What was tuned is found again for its model, device and cores, and for no other."""

import json
import os

import pytest

from transforms.encoder import policy, tuned
from transforms.encoder.device import cpu_name, prepare_device
from transforms.encoder.tuned import Tuned

FOUND = Tuned("d" * 64, "A processor", 2, 2000, 3, 1, 1234.5, "2026-01-02", "2.21.0")


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EMBEDBEAM_CACHE", str(tmp_path / "cache"))


def test_remembered_is_read_again():
    path = tuned.remember(FOUND)
    assert tuned.read("d" * 64, "A processor", 2) == FOUND
    tuned.remember(other := Tuned(**{**json.loads(path.read_text()), "batch_tokens": 500}))
    assert tuned.read("d" * 64, "A processor", 2) == other
    assert os.listdir(path.parent) == [path.name]
    assert (FOUND.where, FOUND.threads) == ("A processor, 2 cores", policy.Threads(3, 1))


@pytest.mark.parametrize(
    ("digest", "device", "cores"),
    [("e" * 64, "A processor", 2), ("d" * 64, "Another", 2), ("d" * 64, "A processor", 4)],
)
def test_of_another_nothing_is_known(digest, device, cores):
    tuned.remember(FOUND)
    assert tuned.read(digest, device, cores) is None


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"batch_tokens": 5}']
    + [
        json.dumps({name: getattr(FOUND, name) for name in FOUND.__slots__} | wrong)
        for wrong in ({"batch_tokens": 0}, {"in_flight": "2"}, {"intra_op": -1}, {"model_digest": "x"})
    ],
)
def test_a_damaged_record_is_none(text):
    tuned.remember(FOUND).write_text(text)
    assert tuned.read("d" * 64, "A processor", 2) is None


def test_the_processor_says_its_name(tmp_path):
    (tmp_path / "info").write_text("processor\t: 0\nmodel name\t: A processor @ 2 GHz\nmodel name\t: B\n")
    assert cpu_name(str(tmp_path / "info")) == "A processor @ 2 GHz"
    assert cpu_name(str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ("fpu avx2 avx512f amx_tile", ", AMX"),
        ("fpu avx2 avx512f", ", AVX-512"),
        ("fpu avx2", ", AVX2"),
        ("fpu", ""),
    ],
)
def test_hosts_of_one_name_with_other_instructions_are_told_apart(tmp_path, flags, told):
    one = f"processor\t: 0\nmodel name\t: A processor\nflags\t\t: {flags}\n\n"
    (tmp_path / "info").write_text(one + one.replace("A proc", "B proc"))
    assert cpu_name(str(tmp_path / "info")) == f"A processor{told}"


class FakeTf:
    """As much of TF as prepare_device asks, which must not change this process's own."""

    def __init__(self):
        self.config = self.threading = self
        self.intra_op = None

    def list_physical_devices(self, kind):
        return []

    def set_intra_op_parallelism_threads(self, count):
        self.intra_op = count


@pytest.mark.parametrize(
    ("remembered", "asked", "threads"),
    [
        (False, {}, (4, 1)),
        (True, {}, (3, 2)),
        (True, {"intra_op": 1}, (4, 1)),  # a plan's, with as many in flight as go with it
        (True, {"intra_op": 2}, (3, 2)),
        (True, {"in_flight": 1, "intra_op": 4}, (1, 4)),
    ],
)
def test_a_device_is_prepared_as_tuned_unless_told_otherwise(remembered, asked, threads, monkeypatch):
    monkeypatch.setattr("transforms.encoder.device.available_cores", lambda: 4)
    made = Tuned("d" * 64, cpu_name(), 4, 2000, 3, 2, 1.0, "2026-01-02", "2.21.0")
    if remembered:
        tuned.remember(made)
    tf = FakeTf()
    found = prepare_device(tf, "d" * 64, **asked)
    assert (found.kind, found.name, found.memory) == ("CPU", "CPU", None)
    assert found.tuned == (made if remembered else None)
    assert (found.threads.in_flight, found.threads.intra_op) == threads
    assert tf.intra_op == threads[1]
