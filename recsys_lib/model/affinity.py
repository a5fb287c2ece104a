"""How a user stands to items like this one: of its brand, its category, whatever the shop tells.

What tells which of a thousand new items a user may want, and that this week's milk has been bought
already, as milk of another brand.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from recsys_lib.model.compiled import alike
from recsys_lib.model.copies import Copies
from recsys_lib.model.histories import Ints
from recsys_lib.model.neighbours import Nearby

FEATURES = ("log_count_of_kind", "nearness_of_kind")
"""Of each attribute: how much of what the user has had shares the item's value of it, and
1 / (1 + windows) since one of the others was taken; of a value that is not known, nothing is."""
LITTLE = 0.01
"""Added to a count, which may be nothing at all."""


def with_affinity(copied: Copies, near: Nearby, attributes: Ints) -> tuple[Copies, Nearby]:
    """Past items and items near them, with FEATURES of each of `attributes` int32 [N + 1, A]
    behind their own features: those of the first attribute, then those of the next."""
    weight, since = np.exp(copied.features[0]), np.exp(copied.features[4])
    own, beside = alike(
        (copied.offsets, copied.items),
        (weight, since),
        (near.offsets, near.items),
        attributes,
        LITTLE,
    )
    return (
        replace(copied, features=np.concatenate([copied.features, own])),
        replace(near, features=np.concatenate([near.features, beside])),
    )
