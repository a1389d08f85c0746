"""The spans that packed attention is given, against attention with a mask, without a GPU."""

import pytest
import torch

from benchsuite.latent import attention
from benchsuite.latent.attention import Layout
from benchsuite.latent.transfer import Route, taken

BEFORE = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1], [0, 0, 0, 1, 1]])
MASK = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1]])


def span_by_span(query, keys, values, layout):
    """Each span's queries attend to its keys, the last query standing at the last key."""
    (queries, caches), out = layout.spans, torch.zeros_like(query)
    keys, values = (t.flatten(0, 1).repeat_interleave(2, 1) for t in (keys, values))
    for n in range(len(queries) - 1):
        here, there = slice(*queries[n : n + 2]), slice(*caches[n : n + 2])
        q, k = query[here], keys[there]
        scores = torch.einsum("qhd,khd->hqk", q, k) * q.shape[-1] ** -0.5
        later = torch.ones(scores.shape[1:]).triu(1 + len(k) - len(q)).bool()
        weights = scores.masked_fill(later, -torch.inf).softmax(-1).nan_to_num()
        out[here] = torch.einsum("hqk,khd->qhd", weights, values[there])
    return out


@pytest.mark.parametrize("multiple", [1, 5, 64])
@pytest.mark.parametrize("before", [None, BEFORE])
def test_each_sequence_is_a_span_of_the_padded_caches(before, multiple):
    with taken(Route(multiple=multiple)):
        layout = Layout.of(before, MASK, torch.device("cpu"))
    n = int(MASK.sum())
    assert len(layout.new) == min(-(-n // multiple) * multiple, MASK.numel())
    assert layout.spans[0][-1] == len(layout.new)
    assert layout.spans[1][-1] == layout.mask.numel()
    assert all((span.diff() >= 0).all() for span in layout.spans)
    draw = torch.Generator().manual_seed(0)
    query = torch.randn(len(layout.new), 4, 8, generator=draw)
    keys, values = torch.randn(2, *layout.mask.shape, 2, 8, generator=draw)
    spans = span_by_span(query, keys, values, layout)
    padded = attention._attend_padded(query, keys, values, layout)
    assert torch.allclose(spans[:n], padded[:n], atol=1e-6)


def test_a_sequence_with_a_gap_is_no_span():
    gap = torch.tensor([[1, 1, 0], [1, 1, 1], [1, 1, 1]])
    assert Layout.of(gap, MASK, torch.device("cpu")).spans is None
