from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import horovod.tensorflow as hvd
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_lib.errors import RanksError
from recsys_lib.train.masks import check_marks, marks_of

MASKS = st.lists(st.lists(st.booleans(), min_size=9, max_size=9), min_size=2, max_size=64)


def pruned(mask: list[bool]) -> Any:
    """A network of one layer whose mask this is."""
    variable = SimpleNamespace(numpy=lambda: np.array(mask, np.float32))
    return SimpleNamespace(layers={"gate": SimpleNamespace(pruning_vars=[(None, variable, None)])})


def mean_of_marks(each: list[list[bool]]) -> np.ndarray:
    """As an all-reduce sums them up in single precision, and divides."""
    marks = [marks_of(pruned(mask), SimpleNamespace()) for mask in each]  # type: ignore[arg-type]
    return np.sum(marks, 0, np.float32) * np.float32(1 / len(each))


@given(each=MASKS)
def test_a_step_whose_ranks_have_other_masks_is_the_last(each: list[list[bool]]) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(hvd, "size", lambda: len(each))
        mean = mean_of_marks([*each[:-1], [not bit for bit in each[0]]])
        with pytest.raises(RanksError, match=f"masks must be equal on all {len(each)} ranks"):
            check_marks(mean)


@given(each=MASKS)
def test_ranks_with_the_same_masks_go_on(each: list[list[bool]]) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(hvd, "size", lambda: len(each))
        check_marks(mean_of_marks([each[0]] * len(each)))
