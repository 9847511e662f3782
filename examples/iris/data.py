"""Rows of measurements, drawn from the real Iris flowers with a little noise."""

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_iris

FEATURES = ("sepal_length", "sepal_width", "petal_length", "petal_width")
COUNT = 65_322
NOISE_CM = 0.1
SMALLEST_CM = 0.1


def rows(count: int = COUNT, seed: int = 1936) -> NDArray[np.float64]:
    """[count, 4] lengths in cm, in the order of FEATURES; the same for the same count and seed.

    Each row is one of the 150 flowers with normal noise, rounded to a millimetre as the originals are.
    """
    draw = np.random.default_rng(seed)
    flowers = load_iris().data[draw.integers(0, 150, size=count)]
    noisy = flowers + draw.normal(0, NOISE_CM, size=flowers.shape)
    measured: NDArray[np.float64] = np.maximum(noisy, SMALLEST_CM).round(1)
    return measured
