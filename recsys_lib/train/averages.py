"""What is kept of a fine-tune."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[np.float32]]


def between(parent: Arrays, student: Arrays, share: float) -> Arrays:
    """`share` of the way from the parent's weights to the student's; shapes are equal.

    A fine-tune is short, so it goes far by a high rate, and strays; the mean of where it began and
    where it ended has much of what it learned and less of that (Wortsman et al. 2022, WiSE-FT).
    What was pruned stays zero, and what did not move stays to the bit.
    """
    if share == 1:
        return student
    return {
        name: np.where(array == 0, array, parent[name] + np.float32(share) * (array - parent[name]))
        for name, array in student.items()
    }
