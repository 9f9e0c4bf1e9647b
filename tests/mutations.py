"""Damaged copies of a file, for the fuzz tests of every reader.

`FUZZ` says how many each of them tries: a few by default, thousands in `make fuzz`.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

fuzz = settings(
    max_examples=int(os.environ.get("FUZZ", "40")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize="FUZZ" not in os.environ,  # the same few in every `make test`, others in every `make fuzz`
    database=None,
)
TOKENS = (b"", b"\0", b"\xff", b"-1", b"1e999", b"NaN", b"null", b"[", b"{", b'"', b"<", b"\n", b"9" * 40)


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """`whole` cut short, with bits flipped, a stretch replaced by a token, or a stretch doubled."""
    raw = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(raw) - 1, 0)))
        kind = draw(st.sampled_from(("cut", "flip", "token", "double")))
        if kind == "cut":
            del raw[at:]
        elif kind == "flip" and raw:
            raw[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "token":
            raw[at : at + draw(st.integers(0, 8))] = draw(st.sampled_from(TOKENS))
        else:
            raw[at:at] = raw[at : at + draw(st.integers(1, 64))]
    return bytes(raw)
