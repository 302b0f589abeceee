from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch

from seqmlm_domains.code.completion.fitting import Sample, fit_mixture
from seqmlm_domains.code.completion.mixture import TERMS, Mixture, Sides


def sample_of(num_files: int, *, names_per_file: int = 20) -> Sample:
    """Names that one term tells from ten competitors, against what is typical of that term."""
    generator = torch.Generator().manual_seed(0)
    terms = torch.randn(num_files * names_per_file, 11, len(TERMS), generator=generator) * 0.1
    terms[:, 0, TERMS.index("bound again")] += 1.0
    files = np.repeat(np.arange(num_files), names_per_file)
    return Sample(terms, torch.ones(terms.shape[:2]).double(), files)


def fitted(num_files: int) -> Mixture:
    sample = sample_of(num_files)
    return fit_mixture(dict.fromkeys(get_args(Sides), sample))[0]


def distance_to_typical(mixture: Mixture, sides: Sides) -> float:
    return float(np.linalg.norm(mixture.with_model[sides] - Mixture.typical().with_model[sides]))


@pytest.mark.parametrize("sides", get_args(Sides))
def test_the_fewer_files_the_nearer_are_weights_to_what_is_typical(sides: Sides) -> None:
    distances = [distance_to_typical(fitted(files), sides) for files in (2, 6, 30)]
    assert distances == sorted(distances)
    assert distances[0] < 1 < 3 < distances[-1]


def test_many_files_turn_a_sign_that_is_typical() -> None:
    term = TERMS.index("bound again")
    assert Mixture.typical().with_model["both"][term] < -1
    assert fitted(30).with_model["both"][term] > 1


def test_terms_of_the_model_take_no_part_in_the_weights_without_it() -> None:
    typical = Mixture.typical()
    for sides in get_args(Sides):
        assert len(typical.without_model[sides]) < len(TERMS)
        assert not typical.model_alone[sides][: len(typical.without_model[sides])].any()
