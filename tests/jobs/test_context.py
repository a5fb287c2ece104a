"""What a run folder keeps of how it was started."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.context import _kept_mapping
from recsys_lib.errors import SettingsError
from tests.jobs import shop


@pytest.mark.parametrize("sign", ["landing/staging/_manifest.json", "lake/bronze"])
def test_a_mapping_can_be_corrected_until_something_has_landed_by_it(
    tmp_path: Path, sign: str
) -> None:
    out, file = tmp_path / "out", tmp_path / "m.yaml"

    def given(**changes: object) -> str:
        told = str(shop.write_mapping(file, **changes))
        return _kept_mapping(out, told, str(out / "lake")).user

    assert given(user="visitr") == "visitr"
    assert given(user="visitor") == "visitor"
    assert _kept_mapping(out, None, str(out / "lake")).user == "visitor"
    (out / sign).mkdir(parents=True)
    assert given(user="visitor") == "visitor"
    with pytest.raises(SettingsError, match="another mapping; use it again, or another --out"):
        given(user="visitr")
