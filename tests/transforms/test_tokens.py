"""Token ids as payloads."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.elements import ABSENT
from transforms.modality.tokens import Tokens

TOKENS = Tokens()


@pytest.mark.parametrize("type_", [pa.list_(pa.int64()), pa.large_list(pa.uint16()), pa.list_(pa.int32(), 2)])
def test_lists_of_any_integers(type_):
    payloads, refused = TOKENS.decode({"ids": pa.array([[1, 2], [3, 4]], type_)})
    assert (payloads.type, payloads.to_pylist(), refused) == (pa.list_(pa.int32()), [[1, 2], [3, 4]], {})
    assert [ids.tolist() for ids in TOKENS.values(payloads.slice(1))] == [[3, 4]]
    assert TOKENS.weight(payloads).tolist() == [8, 8]


def test_what_is_refused():
    values = [[1, 2], None, [], [1, -1], [1, 2**31], [1, 1.5], [1, None], [True], "1 2", ABSENT, [3]]
    payloads, refused = TOKENS.decode({"ids": values})
    assert payloads.to_pylist() == [[1, 2], *[None] * 9, [3]]
    assert refused == {
        1: ("field 'ids' is null", ""),
        2: ("no token ids", ""),
        3: ("no token id", "-1 at 1, expected 0 to 2147483647"),
        4: ("no token id", "2147483648 at 1, expected 0 to 2147483647"),
        5: ("no token id", "1.5 at 1, expected an integer"),
        6: ("no token id", "None at 1, expected an integer"),
        7: ("no token id", "True at 0, expected an integer"),
        8: ("field 'ids' is str, expected a list of token ids", ""),
        9: ("missing field 'ids'", ""),
    }
    typed = pa.array([[1, 2], None, [], [1, -1], [5]], pa.list_(pa.int64()))
    payloads, again = TOKENS.decode({"ids": typed})
    assert payloads.to_pylist() == [[1, 2], None, None, None, [5]]
    assert again == {row: refused[row] for row in (1, 2, 3)}


@given(st.integers(1, 60), st.integers(1, 20), st.integers(0, 30))
def test_spans_cover_all_ids(length, window, overlap):
    (spans,) = TOKENS.split([np.arange(length)], window=window, overlap=overlap, count=len)
    starts, ends, tokens = spans.T
    assert (starts[0], ends[-1]) == (0, length)
    assert (ends - starts == tokens).all()
    assert (tokens <= window).all()
    repeated = min(overlap, window // 2)
    assert (ends[:-1] - starts[1:] == repeated).all()
    assert (np.diff(ends) > 0).all()  # each has something new


def test_a_fingerprint_is_of_the_ids():
    payloads, _ = TOKENS.decode({"ids": [[1, 2], [12], [1, 2]]})
    one, other, same = TOKENS.fingerprint(payloads, b"key").to_pylist()
    assert one == same != other
    assert len(one) == 16


def test_no_payloads():
    payloads, refused = TOKENS.decode({"ids": pa.array([[]], pa.list_(pa.int32()))})
    none = payloads.drop_null()
    assert (len(none), list(refused)) == (0, [0])
    assert TOKENS.values(none) == []
    assert len(TOKENS.fingerprint(none, b"key")) == 0
    assert len(TOKENS.weight(none)) == 0
