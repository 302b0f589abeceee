"""How work is shared out among programs, so that a launch ends early.

A wave is as many programs as the device runs at a time. A last wave of few programs takes as long
as a full one: shares are chosen that come in whole waves, unless the partial sums of so many would
take longer to write and to add up than the last wave stands idle.
"""

from __future__ import annotations

# As many parts of a softmax as one program merges.
MAX_SPLITS = 256
# Launches of more waves than this are even enough without a split.
MOST_WAVES = 8


def whole_wave_slab(
    tiles: int, most: int, programs_per_tile: int, programs: int, *, slab_waves: float = 0.0
) -> int:
    """Tiles of a slab, so that all slabs end earliest, and then the fewest slabs.

    Args:
        tiles: of the vocabulary.
        most: that a slab may have.
        programs_per_tile: that compute the weight gradient of a tile.
        programs: that the device runs at a time.
        slab_waves: waves that take as long as what a slab costs beside its tiles.
    """
    if tiles <= most:
        return tiles
    candidates = {most}
    for waves in range(1, most * programs_per_tile // programs + 1):
        candidates.add(max(1, waves * programs // programs_per_tile))

    def waves_and_slabs(width: int) -> tuple[float, int]:
        slabs, rest = divmod(tiles, width)
        waves = slabs * ceil_div(width * programs_per_tile, programs)
        waves += ceil_div(rest * programs_per_tile, programs)
        slabs += rest > 0
        return waves + slabs * slab_waves, slabs

    return min(candidates, key=waves_and_slabs)


def whole_wave_splits(
    tiles: int,
    steps: int,
    *,
    programs: int,
    most: int = MAX_SPLITS,
    split_work: int = 0,
    step_work: int = 1,
) -> int:
    """Ways to share the steps of each tile so that the launch ends earliest.

    Args:
        tiles: programs without a split, of equal work.
        steps: of each.
        programs: that the device runs at a time.
        most: that memory has room for.
        split_work: operations that each part of a split adds to the launch.
        step_work: operations of a step.
    """
    most = max(1, min(most, steps, MAX_SPLITS))
    full = {min(waves * programs // tiles, most) for waves in range(1, MOST_WAVES + 1)}

    def work_of_busiest(splits: int) -> float:
        waves = ceil_div(tiles * splits, programs)
        merging = splits * split_work / (programs * step_work) if splits > 1 else 0.0
        return waves * ceil_div(steps, splits) + merging

    return min(sorted({1} | (full - {0})), key=work_of_busiest)


def ceil_div(a: int, b: int) -> int:
    """The quotient, rounded up; `triton.cdiv` does the same for constexprs too, 1.5 us a call."""
    return -(-a // b)


def next_power_of_2(n: int) -> int:
    """The least power of two that is no less than ``n``, at least 1."""
    return 1 << (n - 1).bit_length()
