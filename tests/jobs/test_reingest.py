from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.jobs import shop, tables
from tests.jobs.launch import Job, run

pytestmark = pytest.mark.slow

EURO = "coalesce(try_cast(at AS timestamp), to_timestamp(at, 'd.M.yyyy'))"


def test_rows_come_back_after_a_fix_of_the_mapping_though_the_job_is_killed(
    tmp_path: Path,
) -> None:
    """Five rows have their date in another form: three in a window that is closed by then."""
    good = shop.events(users=8, items=20, windows=5)
    odd = [
        shop.event(f"odd{n}", "u1", f"i{n}", 0) | {"at": f"{day}.1.2024"}
        for n, day in enumerate((2, 3, 4, 14, 15))
    ]
    hopeless = shop.event("x1", "u3", "i3", 1.5) | {"at": "yesterday"}
    log = shop.write_csv(tmp_path / "log.csv", [*good, *odd, hopeless, odd[0]])
    mapping = shop.write_mapping(tmp_path / "m.yaml")
    fixed = shop.write_mapping(tmp_path / "fixed.yaml", time={"timestamp": EURO})
    out = tmp_path / "out"
    ingest = ["--events", log, "--mapping", mapping, "--out", out]
    ended = run("ingest", *ingest, log=tmp_path / "ingest", small=False)
    assert ended.code == 0, ended.said
    assert "bad_time       7" in ended.out
    before = tables.versions(out)["silver"]
    args = ["--out", out, "--reason", "bad_time", "--mapping", fixed]
    job = Job("reingest", *args, log=tmp_path / "killed", small=False)
    written = out / "lake" / "silver" / "_delta_log" / f"{before + 1:020d}.json"
    assert job.kill_when(written.exists)
    ended = run("reingest", *args, log=tmp_path / "again", small=False)
    assert ended.code == 0, ended.said
    assert "7 rows looked at, 5 landed, 6 settled, 1 left" in ended.out
    rows = tables.rows(out, "silver")
    came = {row["item"]: row["late"] for row in rows if row["landed"] < 0}
    assert came == {"i0": True, "i1": True, "i2": True, "i3": False, "i4": False}
    ended = run("ingest", *ingest, log=tmp_path / "next", small=False)
    assert ended.code == 0, ended.said
    histories = {row["user"]: len(row["items"]) for row in tables.rows(out, "histories")}
    assert histories == Counter(row["user"] for row in tables.rows(out, "silver"))
