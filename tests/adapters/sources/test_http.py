from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession
from pyspark.sql.streaming.datasource import ReadAllAvailable, ReadMaxRows

from recsys_lib.adapters.sources.http import Api, Windows, http_feed
from recsys_lib.errors import SettingsError, SourceError
from recsys_lib.settings import HttpSettings
from tests.adapters.sources.landed import KilledError, Landed
from tests.adapters.sources.shop_api import TOKEN, ShopApi, serving

EVENTS = [
    {"id": f"{day}-{n}", "at": f"2024-01-0{day}T0{n}:00:00Z"} for day in (1, 3) for n in "123"
]


@pytest.fixture
def shop() -> Iterator[ShopApi]:
    with serving(EVENTS) as api:
        yield api


def settings(shop: ShopApi, **changes: Any) -> HttpSettings:
    told = {"url": shop.url, "start": "2024-01-01", "retries": 3, "max_wait_seconds": 0.05}
    return HttpSettings.model_validate({**told, **changes})


def asked(shop: ShopApi, waits: list[float] | None = None, **changes: Any) -> list[Any]:
    """Records of the 1st of January."""
    kept = [] if waits is None else waits
    api = Api(settings(shop, max_wait_seconds=100, **changes), TOKEN, kept.append)
    return list(api.records("2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z"))


def test_all_pages_of_a_window_are_read(shop: ShopApi) -> None:
    assert [record["id"] for record in asked(shop)] == ["1-1", "1-2", "1-3"]
    assert [query["page"] for query in shop.asked] == ["1", "2", "3"]


def test_a_named_next_page_is_followed(shop: ShopApi) -> None:
    pages = [{"found": {"list": [1, 2]}, "next": "x"}, {"found": {"list": [3]}, "next": None}]
    shop.moods = [(200, {}, json.dumps(page).encode()) for page in pages]
    assert asked(shop, records="found.list", next_page="next") == [1, 2, 3]
    assert [query.get("page") for query in shop.asked] == [None, "x"]


def answers(shop: ShopApi, *found: Any) -> None:
    shop.moods = [(200, {}, json.dumps(answer).encode()) for answer in found]


def test_an_api_that_knows_no_pages_is_told_instead_of_asked_for_ever(shop: ShopApi) -> None:
    answers(shop, *[{"data": [1, 2]}] * 9)
    with pytest.raises(SourceError, match=r"page 2 is the same as the last; .*'page'"):
        asked(shop)
    assert len(shop.asked) == 2


def test_a_next_page_that_comes_again_is_told(shop: ShopApi) -> None:
    answers(shop, *[{"data": [n], "next": "ab"[n % 2]} for n in range(9)])
    with pytest.raises(SourceError, match=r"it names the next page 'a' again; .*http\.next_page"):
        asked(shop, next_page="next")
    assert len(shop.asked) == 3


def test_an_api_without_a_page_behind_the_last_has_come_to_its_end(shop: ShopApi) -> None:
    answers(shop, {"data": [1, 2]})
    shop.moods = [*shop.moods, (404, {}, b"")]
    assert asked(shop) == [1, 2]
    shop.moods = [(404, {}, b"")]
    with pytest.raises(SourceError, match=r"404 .*look at http\.url"):
        asked(shop)


@pytest.mark.parametrize("last", [(200, {}, b'{"data": null}'), (200, {}, b"null"), (204, {}, b"")])
def test_a_page_without_records_may_be_said_in_more_than_one_way(
    shop: ShopApi, last: tuple[int, dict[str, str], bytes]
) -> None:
    answers(shop, {"data": [1, 2]})
    shop.moods = [*shop.moods, last]
    assert asked(shop) == [1, 2]
    shop.moods = [last]
    assert asked(shop) == [], "a window in which nothing happened"


def test_an_answer_may_begin_with_a_byte_order_mark(shop: ShopApi) -> None:
    page = json.dumps({"data": ["café"]}).encode("utf-8-sig")
    shop.moods = [(200, {}, page), (204, {}, b"")]
    assert asked(shop) == ["café"]


def test_an_answer_of_countless_levels_is_told_as_one_that_is_of_no_use(shop: ShopApi) -> None:
    shop.moods = [(200, {}, b"[" * 100_000)] * 4
    with pytest.raises(SourceError, match="no usable answer in 4 attempts"):
        asked(shop)


def test_a_record_with_half_a_surrogate_pair_lands(
    spark: SparkSession, shop: ShopApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_TOKEN", TOKEN)
    shop.events = [{"at": "2024-02", "q": "\ud83d!"}, {"at": "2024-02", "q": "\ud83d\ude00"}]
    told = settings(shop, token_variable="SHOP_TOKEN", window_hours=24 * 365)
    landed = Landed(tmp_path)
    assert landed.run(http_feed(spark, told)) == 2
    assert [json.loads(text)["q"] for text in landed.column("payload")] == ["?!", "😀"]


def test_a_busy_api_is_asked_again_after_the_time_it_names(shop: ShopApi) -> None:
    shop.moods = [(429, {"Retry-After": "7"}, b""), (503, {}, b""), (200, {}, b"{half an answ")]
    waits: list[float] = []
    assert len(asked(shop, waits)) == 3
    assert waits == [7.0, 1.0, 2.0]


def test_an_answer_that_breaks_off_is_asked_for_again(shop: ShopApi) -> None:
    shop.moods = [(200, {"Content-Length": "100"}, b'{"data": []}')]
    assert len(asked(shop)) == 3


def test_an_api_that_stays_broken_is_told_with_its_last_answer(shop: ShopApi) -> None:
    shop.moods = [(502, {}, b"")] * 4
    with pytest.raises(SourceError, match="no usable answer in 4 attempts, the last was 502"):
        asked(shop)


def test_a_refusal_is_told_at_once(shop: ShopApi) -> None:
    api = Api(settings(shop, token_variable="SHOP"), "wrong")
    with pytest.raises(SourceError, match=r"401 .*is the token in SHOP right"):
        list(api.records("2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z"))
    assert len(shop.asked) == 1


def test_an_answer_without_the_list_says_what_it_has(shop: ShopApi) -> None:
    with pytest.raises(SourceError, match=r"'rows' leads to NoneType in an answer with data"):
        asked(shop, records="rows")


def test_only_windows_that_are_over_and_settled_are_asked_for(shop: ShopApi) -> None:
    def until(now: str, *, limit: Any = None, **changes: Any) -> str:
        api = Api(settings(shop, settle_seconds=3600, **changes), None)
        reader = Windows(api, lambda: datetime.fromisoformat(now).replace(tzinfo=UTC))
        start = reader.initialOffset()
        return reader.latestOffset(start, limit or ReadAllAvailable())["until"]

    assert until("2023-05-05T00:00") == "2024-01-01T00:00:00Z"
    assert until("2024-01-03T00:59") == "2024-01-02T00:00:00Z"
    assert until("2024-01-03T01:00") == "2024-01-03T00:00:00Z"
    assert until("2024-01-01T02:30", window_hours=0.5) == "2024-01-01T01:30:00Z"
    few = {"limit": ReadMaxRows(2), "max_windows_per_batch": 2}
    assert until("2024-02-01T00:00", **few) == "2024-01-03T00:00:00Z"


def test_windows_land_once_and_a_kill_goes_on_with_the_one_that_was_due(
    spark: SparkSession, shop: ShopApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_TOKEN", TOKEN)
    few = settings(shop, token_variable="SHOP_TOKEN", window_hours=24 * 365, settle_seconds=0)
    landed = Landed(tmp_path)
    landed.fail_next = True
    with pytest.raises(Exception, match=KilledError.__name__):
        landed.run(http_feed(spark, few))
    assert landed.run(http_feed(spark, few)) == 6
    assert [json.loads(text)["id"] for text in landed.column("payload")] == [
        event["id"] for event in EVENTS
    ]
    before = len(shop.asked)
    assert landed.run(http_feed(spark, few)) == 0
    assert len(shop.asked) == before, "nothing is over since"


def test_a_stream_that_fails_tells_why_in_a_line(
    spark: SparkSession, shop: ShopApi, tmp_path: Path
) -> None:
    with pytest.raises(SourceError, match=r"401 .*set http.token_variable"):
        Landed(tmp_path).run(http_feed(spark, settings(shop, window_hours=24 * 365)))


def test_what_is_missing_is_told_all_at_once(spark: SparkSession) -> None:
    with pytest.raises(SettingsError) as caught:
        http_feed(spark, HttpSettings(url="ftp://x", token_variable="NOT_SET_HERE"))
    assert [fault.split()[0] for fault in caught.value.faults] == ["http.url", "http.start", "the"]
