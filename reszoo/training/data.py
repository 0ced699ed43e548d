"""Data sources for `fit()`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Split:
    """Images or rows `x` (float32), labels `y` (int), for training and for testing."""

    x: Any
    y: Any
    x_test: Any
    y_test: Any
    classes: int


def digits(*, seed: int = 0) -> Split:
    """Returns scikit-learn's digits: 1,797 images of `(8, 8, 1)` in [-1, 1], a fifth of every class for testing."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    images = (images.reshape(-1, 8, 8, 1) / 8.0 - 1.0).astype("float32")
    x, x_test, y, y_test = train_test_split(images, labels, test_size=0.2, random_state=seed, stratify=labels)
    return Split(x, y, x_test, y_test, classes=10)
