"""Which variants the tests compile: a part of a few hundred, as the whole takes an hour.

What breaks one variant mostly breaks all that share two or three of kernel, head dimension, dtype,
rule and architecture with it: a loop that spills registers without a rule does so for most dtypes.
Hence every two of these are compiled together on every architecture, then as many threes as fit.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Any

from tests.kernels.triton.ahead_of_time import Variant, dtype_of

# Constexprs that the tables of launches choose.
_TILES = ("OUTER", "INNER", "BLOCK_M", "BLOCK_V", "BLOCK_E")
Facts = set[tuple[Any, ...]]


def covering(every_variant: Iterable[Variant], at_least: int = 0) -> list[Variant]:
    """Few variants with every needed fact of `facts_of` that any has, and with wanted ones.

    The next one is always that with the most new facts of the first rank; of equal ones that with
    the most of the second, and so on; of equal ones the first.

    Args:
        at_least: as many are taken, unless there are no new facts.
    """
    variants = list(every_variant)
    facts = [facts_of(variant) for variant in variants]
    known: list[Facts] = [set() for _ in facts[0]]

    def new_facts(index: int) -> list[int]:
        return [-len(rank - seen) for rank, seen in zip(facts[index], known, strict=True)]

    taken: list[Variant] = []
    # Counts only fall: what is first by an old count and has not lost any is first.
    queue = [(new_facts(index), index) for index in range(len(variants))]
    heapq.heapify(queue)
    while queue:
        counted, index = heapq.heappop(queue)
        counts = new_facts(index)
        if counts != counted:
            heapq.heappush(queue, (counts, index))
        elif any(counts) and (counts[0] or len(taken) < at_least):
            taken.append(variants[index])
            for seen, rank in zip(known, facts[index], strict=True):
                seen |= rank
        else:
            break
    return taken


def facts_of(variant: Variant) -> Sequence[Facts]:
    """What a variant shows when it is compiled: needed facts, then wanted ones in two ranks.

    Needed on every architecture are each kernel, dtype and head dimension, each launch over a
    vocabulary, and of attention every two of kernel, head dimension, dtype and rule; on sm_90 also
    each dtype of each kernel, each value of each of its flags and kinds, each type of its pointers,
    and each launch of the tables. Wanted are, of attention, the launches of each kernel by dtype
    and head dimension on every architecture, then every three of the above.
    """
    constexprs, target = variant.constexprs, variant.target
    kernel = (variant.kernel, constexprs.get("ADDS_TO_QUERIES"))
    precision = constexprs.get("PRECISION", constexprs.get("INPUT_PRECISION"))
    dtype = (dtype_of(variant), precision)
    sizes = tuple(constexprs.get(name) for name in _TILES)
    launch = (*sizes, variant.num_warps, variant.num_stages)
    needed: Facts = {(target, kernel), (target, dtype)}
    needed |= {(target, constexprs[name]) for name in ("HEAD_DIM", "HALF") if name in constexprs}
    if "BLOCK_V" in constexprs:
        needed.add((target, kernel, precision, launch))
    if target == "sm_90":
        needed.add((kernel, dtype))
        needed |= {
            (kernel, name, value)
            for name, value in constexprs.items()
            if isinstance(value, bool | str) or name == "HEADS_PER_KV_HEAD"
        }
        needed |= {
            (kernel, name, kind) for name, kind in variant.signature.items() if kind in _INTEGERS
        }
    if "INPUT_PRECISION" not in constexprs:
        return needed, set(), set()
    row = max(constexprs["PADDED"], 64)
    if target == "sm_90":
        needed.add((row, precision, launch))
    is_restricted = constexprs["HAS_VISIBILITY"] or constexprs["HAS_WINDOW"]
    factors = (kernel, ("row", row), dtype, ("is_restricted", is_restricted))
    needed |= {(target, *two) for two in combinations(factors, 2)}
    bits = 32 if dtype[0] == "fp32" else 16
    launches = {(target, kernel, row, bits, precision, launch)}
    threes = {(target, *three) for three in combinations(factors, 3)}
    return needed, launches, threes | {(target, kernel, constexprs["HEAD_DIM"], dtype)}


_INTEGERS = ("*i32", "*i64")
