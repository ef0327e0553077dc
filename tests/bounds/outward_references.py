"""What the tests of outward rounding share: random inputs, and quantiles to fifty digits."""

from __future__ import annotations

import mpmath as mp
import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Doubles = NDArray[np.float64]
BITS = 170
"""Working precision of the references."""


def nudged(values: Doubles, rng: np.random.Generator) -> Doubles:
    """Move doubles by up to three units in the last place, within [0, 1]."""
    for _ in range(3):
        values = np.nextafter(values, rng.choice([0.0, 1.0], len(values)))
    return np.clip(values, 0.0, 1.0)


def probability_pairs(number: int, seed: int) -> tuple[Doubles, Doubles]:
    """Random pairs of all kinds: plain ones, ties, ends of the interval, numbers below normal."""
    rng = np.random.default_rng(seed)
    size = -(-number // 9)
    p = rng.uniform(0.02, 1, size)
    tiny = 10 ** rng.uniform(-16, -12, size)
    least = 10 ** rng.uniform(-323.3, -290, size)
    share = 10 ** rng.uniform(-12, 0, size)
    small = 10 ** rng.uniform(-30, -1, size)
    kinds = [
        (p, rng.uniform(0, 1, size) * np.minimum(p, 1 - p)),
        (p / 2, nudged(p / 2, rng)),
        (p, nudged(1 - p, rng)),
        (1 - tiny, tiny * share),
        (nudged(0.5 + tiny, rng), nudged(0.5 - tiny, rng)),
        (p, least),
        (tiny, nudged(tiny * np.maximum(share, 0.9), rng)),
        (least, nudged(least * share, rng)),
        (small, small * share),
    ]
    top = np.concatenate([first for first, _ in kinds])[:number]
    other = np.concatenate([second for _, second in kinds])[:number]
    return top, other


def scales(number: int, seed: int) -> Doubles:
    return 10 ** np.random.default_rng(seed).uniform(-3, 3, number)


def normal_quantile(p: mp.mpf) -> mp.mpf:
    """Return the quantile of a probability of at most one half, or of minus its complement."""
    z = mp.mpf(float(ndtri(float(p))))
    for _ in range(2):
        step = (mp.erfc(-z / mp.sqrt(2)) / 2 - p) * mp.sqrt(2 * mp.pi) * mp.exp(z * z / 2)
        z -= step / (1 + step * z / 2)
        if abs(step) < mp.mpf(10) ** -17 * max(abs(z), abs(step)):
            break
    return z


def normal_quantile_of(p: mp.mpf) -> mp.mpf:
    return normal_quantile(p) if p <= 0.5 else -normal_quantile(1 - p)


def assert_never_above(values: Doubles, exact: list[mp.mpf], *inputs: Doubles) -> None:
    """Check values against references that are good to far more digits than a double has."""
    above = [
        (float(value), float(reference), *(float(column[i]) for column in inputs))
        for i, (value, reference) in enumerate(zip(values.tolist(), exact, strict=True))
        if not mp.mpf(value) <= reference * (1 + mp.mpf(2) ** -110)
    ]
    assert not above, f"{len(above)} of {len(values)}, such as {above[0]}"
