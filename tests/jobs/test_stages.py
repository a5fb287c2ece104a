from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pandas as pd
import pyarrow.parquet as pq
import pytest

from tests.jobs import tables
from tests.jobs.conftest import Finished, Shop
from tests.jobs.launch import Ended, run

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Staged:
    """A run folder that the stages made one after the other, and what each of them said."""

    out: Path
    said: dict[str, Ended]
    temporary: Path


@pytest.fixture(scope="module")
def staged(made_shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Staged:
    """The same log as the replay's, as Parquet: history, first model, and one window's exam."""
    folder = tmp_path_factory.mktemp("stages")
    out = ["--out", folder / "out"]
    log = ["--events", made_shop.parquet, "--mapping", made_shop.mapping]
    steps: dict[str, list[object]] = {
        "ingest": [*out, *log, "--windows", 2],
        "train": [*out, "--window", 3],
        "evaluate": [*out, "--window", 4],
        "promote": [*out, "--window", 4],
        "recommend": out,
        "sweep": [*out, "--widths", 0.5, "--set", "compress.distil_windows=1"],
    }
    temporary = folder / "temporary"
    temporary.mkdir()
    env = {"TMPDIR": str(temporary)}
    said = {name: run(name, *args, log=folder / name, env=env) for name, args in steps.items()}
    for ended in said.values():
        assert ended.code == 0, ended.said
    return Staged(folder / "out", said, temporary)


def test_stages_one_by_one_give_a_champion_and_slates(staged: Staged) -> None:
    champion = tables.client(staged.out).get_model_version_by_alias("alluvium", "champion")
    assert (int(champion.version), champion.tags["window"]) == (1, "3")
    users = {row["user"] for row in tables.rows(staged.out, "histories")}
    slates = tables.rows(staged.out, "recommendations")
    assert {row["user"] for row in slates} == users
    assert {(row["window"], len(row["items"])) for row in slates} == {(4, 20)}


def test_stages_leave_the_temporary_folder_as_they_found_it(staged: Staged) -> None:
    assert list(staged.temporary.iterdir()) == []


def test_each_stage_says_what_it_did(staged: Staged) -> None:
    assert "window 3" in staged.said["ingest"].out
    assert "window 4" in staged.said["ingest"].out
    assert "models:/alluvium/1 has learned up to window 3" in staged.said["train"].out
    assert "ndcg@10" in staged.said["evaluate"].out
    assert "champion already" in staged.said["promote"].out
    assert "recommendations" in staged.said["recommend"].out
    for name, ended in staged.said.items():
        assert ended.err.strip() == "", name


def test_what_the_first_model_learned_from_is_pinned(staged: Staged) -> None:
    pins = (staged.out / "lake" / "pins").glob("*/0-*/model%20of%20window%203.json")
    pinned = {path.parent.parent.name for path in pins}
    assert pinned == {
        "vocabulary",
        "item_features",
        "item_counts",
        "item_returns",
        "sequences",
        "neighbours",
    }


def test_same_seed_measures_the_same_whatever_the_format_and_the_job(
    staged: Staged, finished: Finished
) -> None:
    ours, theirs = (
        {
            (row["scorer"], row["user"]): (row["ndcg@10"], row["recall@20"])
            for row in tables.rows(out, "metrics")
            if row["window"] == 4
        }
        for out in (staged.out, finished.out)
    )
    assert ours.keys() == theirs.keys()
    for key, values in ours.items():
        assert values == pytest.approx(theirs[key], abs=5e-4), key


@pytest.fixture(scope="module")
def histories(staged: Staged) -> list[dict[str, object]]:
    """Requests in an order of their own; the last has nothing in it, one item is unknown."""
    rows = tables.rows(staged.out, "silver")
    users = sorted({row["user"] for row in rows})[:40]
    bought = {
        user: [row["item"] for row in rows if row["user"] == user][-6:] for user in reversed(users)
    }
    made = [{"request_id": f"r {user}", "items": items} for user, items in bought.items()]
    return [
        *made,
        {"request_id": "strange", "items": ["not for sale"]},
        {"request_id": "new", "items": []},
    ]


@pytest.mark.parametrize(
    ("form", "flags"),
    [("jsonl", []), ("jsonl", ["--form", "learned"]), ("parquet", ["--exclude-seen"])],
)
def test_file_of_histories_is_answered_in_its_order(
    form: str,
    flags: list[str],
    staged: Staged,
    histories: list[dict[str, object]],
    tmp_path: Path,
) -> None:
    source, target = tmp_path / f"histories.{form}", tmp_path / "deep" / "answers.parquet"
    if form == "jsonl":
        source.write_text("".join(f"{json.dumps(row)}\n" for row in histories))
    else:
        pd.DataFrame(histories).to_parquet(source)
    model = ["--model", "models:/alluvium@champion", "--run", staged.out]
    asked = ["--histories", source, "--k", 5, "--out", target, *flags]
    ended = run("recommend", *model, *asked, log=tmp_path / "recommend", small=False)
    assert ended.code == 0, ended.said
    assert f"{len(histories)} requests answered" in ended.out
    answers = pq.read_table(target).to_pylist()
    assert [row["request_id"] for row in answers] == [row["request_id"] for row in histories]
    seen = {row["request_id"]: set(row["items"]) for row in histories}  # type: ignore[call-overload]
    overlap = [len(seen[row["request_id"]] & set(row["items"])) for row in answers]
    assert all(len(set(row["items"])) == 5 for row in answers)
    assert sum(overlap) == 0 if "--exclude-seen" in flags else sum(overlap) > len(histories)


def test_histories_that_are_brought_are_answered_by_the_shop_of_today_as_slates_are(
    staged: Staged, tmp_path: Path
) -> None:
    columns = ("items", "types", "times", "values")
    brought: dict[str, dict[str, list[object]]] = {}
    for row in sorted(tables.rows(staged.out, "silver"), key=lambda row: (row["time"], row["key"])):
        mine = brought.setdefault(row["user"], {name: [] for name in columns})
        mine["items"].append(row["item"])
        mine["types"].append(row["type"])
        mine["times"].append(row["time"])
        mine["values"].append(row["value"])
    source = tmp_path / "histories.parquet"
    pd.DataFrame([{"request_id": u, **told} for u, told in brought.items()]).to_parquet(source)
    slates = {row["user"]: row["items"] for row in tables.rows(staged.out, "recommendations")}

    def answered(*flags: str) -> tuple[str, float]:
        """What was said, and the share of slates that the answers are."""
        target = tmp_path / f"answers{len(flags)}.parquet"
        model = ["--model", "models:/alluvium@champion", "--run", staged.out, "--k", 20]
        asked = [*model, "--histories", source, "--out", target, *flags]
        ended = run("recommend", *asked, log=target.with_suffix(""), small=False)
        assert ended.code == 0, ended.said
        answers = {row["request_id"]: row["items"] for row in pq.read_table(target).to_pylist()}
        assert answers.keys() == slates.keys()
        return ended.out, sum(answers[user] == slates[user] for user in slates) / len(slates)

    said, same = answered()
    assert "the shop after window 4" in said
    assert same == 1
    said, same = answered("--as-learned")
    assert "the shop after" not in said
    assert same < 1


def test_what_is_shipped_needs_no_tensorflow(staged: Staged) -> None:
    code = (
        "import sys; from recsys_lib.model.opening import open_scorer;"
        "s = open_scorer(sys.argv[1]);"
        "assert 'tensorflow' not in sys.modules; print(len(s.bundle.golden.items), s.bundle.form)"
    )
    [version] = (staged.out / "models").glob("window-3")
    done = subprocess.run(
        [sys.executable, "-c", code, str(version)], capture_output=True, text=True, check=True
    )
    golden, form = done.stdout.split()
    assert int(golden) > 0
    assert form == "int8"


def test_champion_predicts_through_mlflow(
    staged: Staged, histories: list[dict[str, object]]
) -> None:
    before = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    store = f"sqlite:///{staged.out / 'mlflow.db'}"
    mlflow.set_tracking_uri(store)
    mlflow.set_registry_uri(store)
    try:
        model = mlflow.pyfunc.load_model("models:/alluvium@champion")
        answers = model.predict(pd.DataFrame(histories))
        short = model.predict(pd.DataFrame(histories), params={"k": 3, "exclude_seen": True})
    finally:
        mlflow.set_tracking_uri(before[0])
        mlflow.set_registry_uri(before[1])
    assert list(answers["request_id"]) == [row["request_id"] for row in histories]
    assert {len(items) for items in answers["items"]} == {20}
    assert {len(items) for items in short["items"]} == {3}
    assert not any(
        set(row["items"]) & set(items)  # type: ignore[call-overload]
        for row, items in zip(histories, short["items"], strict=True)
    )


def test_a_sweep_shows_what_every_form_costs_and_says_which_to_ship(staged: Staged) -> None:
    said = staged.said["sweep"].out
    forms = [line for line in said.splitlines() if line.endswith("%)")]
    assert len(forms) == 6
    version = tables.client(staged.out).get_model_version("alluvium", "1")
    assert version.tags["sweep"] in said
    files = {file.path for file in tables.client(staged.out).list_artifacts(version.run_id)}
    assert {"sweep.json", "sweep.png"} <= files
    told = Path(tables.client(staged.out).download_artifacts(version.run_id, "sweep.json"))
    sizes = [form["size"] for form in json.loads(told.read_text())["forms"]]
    assert len(sizes) == len(forms)
    assert min(sizes) < sizes[0] == max(sizes)


def test_a_vacuum_deletes_what_merges_left_and_changes_no_answer(staged: Staged) -> None:
    before = {name: tables.rows(staged.out, name) for name in ("histories", "neighbours", "silver")}
    ended = run("vacuum", "--out", staged.out, "--hours", 0, log=staged.out.parent / "vacuum")
    assert ended.code == 0, ended.said
    said = dict(line.split(": ") for line in ended.out.splitlines() if ": " in line)
    assert "histories" in said, "merges write rows anew"
    assert "neighbours" not in said, "what a model learned from is pinned"
    assert {name: tables.rows(staged.out, name) for name in before} == before
    again = run("vacuum", "--out", staged.out, "--hours", 0, log=staged.out.parent / "again")
    assert again.out.startswith("deleted 0 files of ")
