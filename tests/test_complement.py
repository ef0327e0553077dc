"""The encoding of ablated images."""

from __future__ import annotations

import math

import pytest
import torch

from randsmooth.models.complement import ComplementEncoding


@pytest.mark.parametrize("fill", [math.nan, -1, 0.1])
def test_values_come_with_their_complements_and_hidden_ones_as_zeros(fill: float) -> None:
    x = torch.tensor([0.0, 0.25, 1.0, 0.75]).reshape(1, 1, 2, 2).repeat(3, 2, 1, 1)
    x[:, :, 0, 1] = fill
    encoded = ComplementEncoding(fill)(x)
    assert encoded.shape == (3, 4, 2, 2)
    assert encoded[0, 0].tolist() == [[0.0, 0.0], [1.0, 0.75]]
    assert encoded[0, 2].tolist() == [[1.0, 0.0], [0.0, 0.25]]
    assert torch.equal(encoded[:, :2].sum(dim=1), 2 * encoded[:, 0])


def test_a_fill_that_is_no_number_is_refused() -> None:
    with pytest.raises(TypeError, match=r"^fill must be a real number, got None\.$"):
        ComplementEncoding(None)  # type: ignore[arg-type]
