from __future__ import annotations

import numpy as np

from seqmlm_domains.code.near_copies import near_copy_groups


def test_near_copies_share_a_group_and_others_do_not() -> None:
    generator = np.random.default_rng(1)
    original = generator.integers(0, 5_000, 2_000)
    edited = np.concatenate([original[:900], [7, 7, 7], original[950:]])
    other = generator.integers(0, 5_000, 2_000)
    half = np.concatenate([original[:1_000], generator.integers(0, 5_000, 1_000)])
    groups = near_copy_groups([original, other, edited, half])
    assert groups[0] == groups[2]
    assert len({groups[0], groups[1], groups[3]}) == 3


def test_many_near_copies_of_one_template_are_one_group() -> None:
    generator = np.random.default_rng(2)
    template = generator.integers(0, 5_000, 1_000)
    copies = [np.append(template, generator.integers(0, 5_000, 30)) for _ in range(60)]
    assert len(set(near_copy_groups(copies).tolist())) == 1


def test_short_files_are_copies_only_if_equal() -> None:
    files = [np.array(ids) for ids in ([1, 2], [1, 2], [1, 3], [2, 1])]
    groups = near_copy_groups(files).tolist()
    assert groups[0] == groups[1]
    assert len(set(groups)) == 3


def test_no_files_make_no_groups() -> None:
    assert near_copy_groups([]).tolist() == []
