"""Attention of one new token a row over a cache of rows of unlike length, as one CUDA kernel.

Imported where Triton can run. One program has a row and one key-value head: it puts the new key and
value into the cache and goes over the earlier ones once, with the softmax kept up on the way
(Milakov and Gimelshein 2018, arXiv 1805.02867; Dao et al. 2022, arXiv 2205.14135). Few rows of a
long cache would leave most of a GPU idle: there a program goes over a part of the earlier tokens,
and another kernel joins the parts (Flash-Decoding, Dao et al. 2023). A prefix that all rows share
lies in memory once, so that the chip's own cache serves most reads of it.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra import libdevice

from benchsuite.decoding.ways import PREFIX_UNIT

# Earlier tokens at a time: 64, or 32 where their keys and values would not fit on the chip.
_BLOCK_BYTES = 64 * 512
# tl.dot needs sixteen rows: the query heads of one key-value head are filled up to that.
_LEAST_ROWS = 16
# Programs that keep a GPU busy; tokens below which a part is not worth joining; parts at most.
_PROGRAMS, _PART_TOKENS, _MOST_PARTS = 256, 128, 16


@triton.jit
def _capped(scores, softcap, CAPPED: tl.constexpr):
    if CAPPED:
        scores = softcap * libdevice.tanh(scores / softcap)
    return scores


@triton.jit
def _over(
    largest,
    total,
    mixed,
    q,
    keys_ptr,
    values_ptr,
    begin,
    end,
    first,
    place,
    scaling,
    softcap,
    width,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
    CAPPED: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Take tokens from ``begin`` to ``end`` into the softmax; the pointers are token 0's."""
    columns = tl.arange(0, WIDTH)
    for start in range(begin, end, BLOCK):
        at = start + tl.arange(0, BLOCK)
        seen = (at >= first) & (at < place)
        where = at[:, None] * width + columns[None, :]
        inside = seen[:, None] & (columns < width)[None, :]
        keys = tl.load(keys_ptr + where, mask=inside, other=0.0)
        values = tl.load(values_ptr + where, mask=inside, other=0.0)
        scores = tl.dot(q, tl.trans(keys), input_precision=PRECISION) * scaling
        scores = tl.where(seen[None, :], _capped(scores, softcap, CAPPED), float("-inf"))
        higher = tl.maximum(largest, tl.max(scores, axis=1))
        shrunk = tl.exp(largest - higher)
        weights = tl.exp(scores - higher[:, None])
        total = total * shrunk + tl.sum(weights, axis=1)
        mixed = mixed * shrunk[:, None]
        mixed += tl.dot(weights.to(values.dtype), values, input_precision=PRECISION)
        largest = higher
    return largest, total, mixed


@triton.jit
def _attend_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    keys_ptr,
    values_ptr,
    prefix_keys_ptr,
    prefix_values_ptr,
    places_ptr,
    out_ptr,
    largest_ptr,
    total_ptr,
    q_row_stride,
    q_head_stride,
    k_row_stride,
    k_head_stride,
    v_row_stride,
    v_head_stride,
    cache_row_stride,
    cache_head_stride,
    scaling,
    softcap,
    window,
    prefix,
    group,
    width,
    GROUP: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
    CAPPED: tl.constexpr,
    PRECISION: tl.constexpr,
    PREFIXED: tl.constexpr,
    PARTS: tl.constexpr,
):
    row, head = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    place = tl.load(places_ptr + row).to(tl.int32)
    columns, members = tl.arange(0, WIDTH), tl.arange(0, GROUP)
    real, ours = columns < width, members < group
    k_new = tl.load(
        k_ptr + row * k_row_stride + head * k_head_stride + columns, mask=real, other=0.0
    )
    v_new = tl.load(
        v_ptr + row * v_row_stride + head * v_head_stride + columns, mask=real, other=0.0
    )
    # A row's own tokens come after the prefix: where its token 0 would lie.
    cached = row * cache_row_stride + head * cache_head_stride - prefix * width
    part = tl.program_id(2)
    ours_first = real & (part == 0)
    tl.store(keys_ptr + cached + place * width + columns, k_new, mask=ours_first)
    tl.store(values_ptr + cached + place * width + columns, v_new, mask=ours_first)

    heads = head * group + members
    q = tl.load(
        q_ptr + row * q_row_stride + heads[:, None] * q_head_stride + columns[None, :],
        mask=ours[:, None] & real[None, :],
        other=0.0,
    )
    own = tl.sum(q.to(tl.float32) * k_new.to(tl.float32)[None, :], axis=1) * scaling
    largest = _capped(own, softcap, CAPPED)
    total = tl.full([GROUP], 1.0, tl.float32)
    mixed = tl.zeros([GROUP, WIDTH], tl.float32) + v_new.to(tl.float32)[None, :]
    first = tl.maximum(place - window + 1, 0)
    begin, end = first // BLOCK * BLOCK, place
    if PARTS > 1:
        blocks = tl.cdiv(place - begin, BLOCK * PARTS)
        begin += part * blocks * BLOCK
        end = tl.minimum(place, begin + blocks * BLOCK)
        if part > 0:  # the new token is the first part's
            largest = tl.full([GROUP], float("-inf"), tl.float32)
            total = tl.zeros([GROUP], tl.float32)
            mixed = tl.zeros([GROUP, WIDTH], tl.float32)
    if PREFIXED:
        shared = head * prefix * width
        largest, total, mixed = _over(
            *(largest, total, mixed, q, prefix_keys_ptr + shared, prefix_values_ptr + shared),
            *(begin, tl.minimum(end, prefix), first, place, scaling, softcap, width),
            *(WIDTH, BLOCK, CAPPED, PRECISION),
        )
        begin = tl.maximum(begin, prefix)
    largest, total, mixed = _over(
        *(largest, total, mixed, q, keys_ptr + cached, values_ptr + cached),
        *(begin, end, first, place, scaling, softcap, width),
        *(WIDTH, BLOCK, CAPPED, PRECISION),
    )
    if PARTS > 1:
        rows = ((row * tl.num_programs(1) + head) * PARTS + part) * GROUP + members
        tl.store(largest_ptr + rows, largest)
        tl.store(total_ptr + rows, total)
        tl.store(out_ptr + rows[:, None] * WIDTH + columns[None, :], mixed)
    else:
        mixed = mixed / total[:, None]
        n_heads = tl.num_programs(1) * group
        tl.store(
            out_ptr + (row * n_heads + heads[:, None]) * width + columns[None, :],
            mixed.to(out_ptr.dtype.element_ty),
            mask=ours[:, None] & real[None, :],
        )


@triton.jit
def _join_kernel(
    parts_ptr,
    largest_ptr,
    total_ptr,
    out_ptr,
    group,
    width,
    GROUP: tl.constexpr,
    WIDTH: tl.constexpr,
    PARTS: tl.constexpr,
):
    row, head = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    columns, members = tl.arange(0, WIDTH), tl.arange(0, GROUP)
    one = row * tl.num_programs(1) + head
    largest = tl.full([GROUP], float("-inf"), tl.float32)
    total = tl.zeros([GROUP], tl.float32)
    mixed = tl.zeros([GROUP, WIDTH], tl.float32)
    for part in range(PARTS):  # the first is never empty
        rows = (one * PARTS + part) * GROUP + members
        other = tl.load(largest_ptr + rows)
        higher = tl.maximum(largest, other)
        shrunk, scale = tl.exp(largest - higher), tl.exp(other - higher)
        total = total * shrunk + tl.load(total_ptr + rows) * scale
        mixed = mixed * shrunk[:, None]
        mixed += tl.load(parts_ptr + rows[:, None] * WIDTH + columns[None, :]) * scale[:, None]
        largest = higher
    mixed = mixed / total[:, None]
    heads = head * group + members
    n_heads = tl.num_programs(1) * group
    tl.store(
        out_ptr + (row * n_heads + heads[:, None]) * width + columns[None, :],
        mixed.to(out_ptr.dtype.element_ty),
        mask=(members < group)[:, None] & (columns < width)[None, :],
    )


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    keys: Tensor,
    values: Tensor,
    places: Tensor,
    *,
    scaling: float,
    window: int | None = None,
    softcap: float | None = None,
    prefix: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Return the attention [rows, heads, width] of one new token a row; the cache takes it in.

    ``query`` is [rows, heads, width], ``key`` and ``value`` [rows, kv heads, width], of one dtype
    (fp16, bf16 or fp32). ``keys`` and ``values`` are the contiguous cache, [rows, kv heads, length,
    width]; ``places`` int64 [rows] says where each row's new token goes: those before it are seen,
    or the last ``window`` tokens, itself among them. ``softcap`` c makes a score s c tanh(s / c).
    ``prefix`` holds the keys and values, contiguous [kv heads, tokens, width], of tokens that every
    row begins with, ``PREFIX_UNIT`` or a multiple: places count them, the cache begins behind them.
    Sums are in fp32.
    """
    rows, heads, width = query.shape
    kv_heads, length = keys.shape[1:3]
    shared = 0 if prefix is None else prefix[0].shape[1]
    if shared % PREFIX_UNIT:
        raise ValueError(f"a prefix of {shared} tokens is no multiple of {PREFIX_UNIT}")
    length += shared
    query, key, value = (x if x.stride(-1) == 1 else x.contiguous() for x in (query, key, value))
    out = torch.empty(rows, heads, width, dtype=query.dtype, device=query.device)
    group = heads // kv_heads
    padded = max(16, triton.next_power_of_2(width))
    members = max(_LEAST_ROWS, triton.next_power_of_2(group))
    parts = _parts(rows * kv_heads, length)
    into, largest, total = out, out, out
    if parts > 1:
        of_parts = (rows, kv_heads, parts, members)
        into = torch.empty(*of_parts, padded, dtype=torch.float32, device=query.device)
        largest, total = torch.empty(2, *of_parts, dtype=torch.float32, device=query.device)
    strides = [step for tensor in (query, key, value, keys) for step in tensor.stride()[:2]]
    launch = {"GROUP": members, "WIDTH": padded, "PARTS": parts, "num_warps": 4}
    with torch.cuda.device_of(query):
        _attend_kernel[(rows, kv_heads, parts)](
            *(query, key, value, keys, values, *(prefix or (keys, values))),
            *(places, into, largest, total),
            *strides,
            scaling,
            softcap or 1.0,
            window or length,
            shared,
            group,
            width,
            BLOCK=min(64, _BLOCK_BYTES // (padded * query.element_size())),
            CAPPED=softcap is not None,
            PRECISION="ieee" if query.dtype == torch.float32 else "tf32",
            PREFIXED=prefix is not None,
            **launch,
        )
        if parts > 1:
            joined = (into, largest, total, out)
            _join_kernel[(rows, kv_heads)](*joined, group, width, **launch)
    return out


def _parts(programs: int, length: int) -> int:
    """Return into how many parts, a power of 2, the cache of each of the programs is cut."""
    wanted = min(_PROGRAMS // programs, length // _PART_TOKENS, _MOST_PARTS)
    return 1 << max(wanted, 1).bit_length() - 1
