from __future__ import annotations

import json

import pytest

from recsys_lib.adapters.lake import Lake
from recsys_lib.catalog.summaries import latest_slates

SLATES = "user string, items array<string>, scores array<float>, model_version int, `window` int"


@pytest.mark.parametrize(
    ("champion", "wanted"),
    [(2, {"ann": (2, 5), "bob": (3, 6)}), (3, {"ann": (3, 5), "bob": (3, 6)}), (None, None)],
    ids=["an older version serves again", "the newest serves", "nobody has been promoted"],
)
def test_of_the_latest_window_the_champions_slate_counts_where_it_has_one(
    lake: Lake, champion: int | None, wanted: dict[str, tuple[int, int]] | None
) -> None:
    told = [("ann", 3, 5), ("ann", 2, 5), ("ann", 2, 4), ("bob", 3, 6), ("bob", 2, 5)]
    rows = [(user, [f"by {version}"], [1.0], version, window) for user, version, window in told]
    found = latest_slates(lake.spark.createDataFrame(rows, SLATES), champion).collect()
    shown = {row["id"]: (row["model_version"], row["last_window"]) for row in found}
    assert shown == (wanted or {"ann": (3, 5), "bob": (3, 6)})
    assert {row["id"]: json.loads(row["items"]) for row in found} == {
        user: [f"by {version}"] for user, (version, _) in shown.items()
    }
