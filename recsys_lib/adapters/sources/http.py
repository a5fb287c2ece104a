"""Pull an HTTP API window by window: GET with a Bearer token, start_date, end_date and pages.

The offset of the stream is the end of the last window it holds, so a landing that was killed, or
stopped for a month, goes on with the window after the last one that landed.
"""

from __future__ import annotations

import email.utils
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from http.client import HTTPException
from itertools import pairwise
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.datasource import DataSource, DataSourceStreamReader, InputPartition
from pyspark.sql.streaming.datasource import (
    ReadAllAvailable,
    ReadLimit,
    ReadMaxRows,
    SupportsTriggerAvailableNow,
)

from recsys_lib.adapters.sources.feed import Feed, record, secret
from recsys_lib.errors import SettingsError, SourceError
from recsys_lib.settings import HttpSettings

PAST = object()  # in place of an answer: there is no such page
AGAIN = (408, 425, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Api:
    """Asks one window of the API, as often as it takes. Pickled to where the pages are read."""

    settings: HttpSettings
    token: str | None
    sleep: Callable[[float], None] = time.sleep

    def records(self, start: str, end: str) -> Iterator[Any]:
        """Records of all pages of the window [start, end). Raises SourceError."""
        settings = self.settings
        page: Any = None if settings.next_page else 1
        before: list[Any] = []
        asked: set[str] = set()
        while True:
            answer = self._page(start, end, page)
            found = _found(answer, settings.records)
            if not isinstance(found, list):
                raise SourceError(
                    f"{settings.url}: http.records must lead to a list, {settings.records!r} leads "
                    f"to {type(found).__name__} in an answer with {_keys(answer)}"
                )
            if settings.next_page:
                yield from found
                page = _at(answer, settings.next_page)
                if page in (None, ""):
                    return
                if str(page) in asked:
                    wish = f"{page!r} again; look at http.next_page and http.page_parameter"
                    raise SourceError(f"{settings.url}: it names the next page {wish}")
                asked = {*asked, str(page)}
            elif not found:
                return
            elif found == before:
                wish = (
                    f"look at http.page_parameter, {settings.page_parameter!r}, or http.next_page"
                )
                raise SourceError(f"{settings.url}: page {page} is the same as the last; {wish}")
            else:
                yield from found
                page, before = page + 1, found

    def _page(self, start: str, end: str, page: Any) -> Any:
        """The answer; PAST where the API has no such page, as some say it behind the last one."""
        settings = self.settings
        asked = {settings.start_parameter: start, settings.end_parameter: end}
        asked = {**settings.parameters, **asked}
        if page is not None:
            asked = {**asked, settings.page_parameter: str(page)}
        joint = "&" if "?" in str(settings.url) else "?"
        url = f"{settings.url}{joint}{urllib.parse.urlencode(asked)}"
        told = ""
        for attempt in range(settings.retries + 1):
            try:
                return self._get(url)
            except urllib.error.HTTPError as error:
                told = f"{error.code} {error.reason}"
                if error.code == 404 and not settings.next_page and page > 1:
                    return PAST
                if error.code not in AGAIN:
                    raise SourceError(self._refused(error, url)) from None
                wait = _retry_after(error.headers.get("Retry-After"))
            # A lost connection, before or in the answer; no JSON; levels without end.
            except (OSError, HTTPException, ValueError, RecursionError) as error:
                told, wait = str(error), None
            if attempt < settings.retries:
                pause = 0.5 * 2**attempt if wait is None else wait
                self.sleep(min(pause, settings.max_wait_seconds))
        raise SourceError(
            f"{url}: no usable answer in {settings.retries + 1} attempts, the last was {told}; "
            "what had landed stays, the same command goes on with this window"
        )

    def _get(self, url: str) -> Any:
        headers = {"Accept": "application/json"}
        if self.token:
            headers = {**headers, "Authorization": f"Bearer {self.token}"}
        request = urllib.request.Request(url, headers=headers)
        with urllib.request.urlopen(request, timeout=self.settings.timeout_seconds) as answer:
            if answer.status == HTTPStatus.NO_CONTENT:
                return PAST
            return json.loads(answer.read().decode("utf-8-sig", errors="replace"))

    def _refused(self, error: urllib.error.HTTPError, url: str) -> str:
        variable = self.settings.token_variable
        hint = f"is the token in {variable} right?" if variable else "set http.token_variable"
        step = hint if error.code in (401, 403) else "look at http.url and http.parameters"
        return f"{url}: {error.code} {error.reason}; {step}"


class Span(InputPartition):
    """One window."""

    def __init__(self, start: str, end: str) -> None:
        self.start, self.end = start, end


class Windows(DataSourceStreamReader, SupportsTriggerAvailableNow):
    """Windows that are over, from the first of the settings on."""

    def __init__(self, api: Api, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.api, self.now = api, now
        self._last: datetime | None = None

    def initialOffset(self) -> dict[str, str]:  # noqa: N802
        return {"until": _text(_time(str(self.api.settings.start)))}

    def getDefaultReadLimit(self) -> ReadLimit:  # noqa: N802
        return ReadMaxRows(self.api.settings.max_windows_per_batch)

    def prepareForTriggerAvailableNow(self) -> None:  # noqa: N802
        self._last = self._over()

    def latestOffset(self, start: dict[str, str], limit: ReadLimit) -> dict[str, str]:  # noqa: N802
        settings = self.api.settings
        begin, step = _time(start["until"]), timedelta(hours=settings.window_hours)
        whole = max(0, ((self._last or self._over()) - begin) // step)
        if not isinstance(limit, ReadAllAvailable):
            whole = min(whole, settings.max_windows_per_batch)
        return {"until": _text(begin + whole * step)}

    def partitions(self, start: dict[str, str], end: dict[str, str]) -> Sequence[Span]:
        begin, last = _time(start["until"]), _time(end["until"])
        step = timedelta(hours=self.api.settings.window_hours)
        count = -(-(last - begin) // step)
        edges = [*(begin + number * step for number in range(count)), last]
        return [Span(_text(a), _text(b)) for a, b in pairwise(edges)]

    def read(self, partition: InputPartition) -> Iterator[tuple[str, str]]:
        assert isinstance(partition, Span)
        origin = f"{self.api.settings.url} {partition.start}/{partition.end}"
        for found in self.api.records(partition.start, partition.end):
            text = json.dumps(found, ensure_ascii=False)
            # JSON may name half of a pair of surrogates, which no table can hold.
            yield text.encode("utf-8", errors="replace").decode("utf-8"), origin

    def _over(self) -> datetime:
        return self.now() - timedelta(seconds=self.api.settings.settle_seconds)


def http_feed(spark: SparkSession, settings: HttpSettings) -> Feed:
    """Raises SettingsError where the address, the first window or the token is missing."""
    api = Api(settings, _checked(settings))

    class HttpWindows(DataSource):
        """Made here, so that settings and token travel inside and never as printed options."""

        @classmethod
        def name(cls) -> str:
            return "alluvium_http"

        def schema(self) -> str:
            return "payload string, origin string"

        def streamReader(self, schema: Any) -> DataSourceStreamReader:  # noqa: ARG002, N802
            return Windows(api)

    def stream() -> DataFrame:
        spark.dataSource.register(HttpWindows)
        return spark.readStream.format("alluvium_http").load()

    def explain(text: str) -> str | None:
        marker = "recsys_lib.errors.SourceError: "
        return text.split(marker)[-1].splitlines()[0] if marker in text else None

    host = urllib.parse.urlsplit(str(settings.url))
    name = "".join(c if c.isalnum() else "-" for c in f"{host.netloc}{host.path}").strip("-")
    return Feed("http", name, stream, _records, explain=explain, settings=_told(settings))


def _told(settings: HttpSettings) -> dict[str, str]:
    """What is asked of whom. Some APIs want their key among the parameters."""
    url = urllib.parse.urlsplit(str(settings.url))
    asked = {**dict(urllib.parse.parse_qsl(url.query)), **settings.parameters}
    place = f"{url.scheme}://{url.netloc.rpartition('@')[2]}{url.path}"
    parameters = {f"http.parameters.{n}": secret(value) for n, value in asked.items()}
    return {"http.url": place, **parameters}


def _checked(settings: HttpSettings) -> str | None:
    wrong: list[str] = []
    if settings.url is None or urllib.parse.urlsplit(settings.url).scheme not in ("http", "https"):
        wrong = [*wrong, f"http.url must be http://… or https://…, got {settings.url!r}"]
    try:
        _time(str(settings.start))
    except ValueError:
        wrong = [*wrong, f"http.start must be an ISO time, got {settings.start!r}"]
    token = os.environ.get(settings.token_variable) if settings.token_variable else None
    if settings.token_variable and not token:
        wrong = [*wrong, f"the environment variable {settings.token_variable} must hold the token"]
    if wrong:
        raise SettingsError("--source http", wrong)
    return token


def _records(batch: DataFrame) -> DataFrame:
    return batch.select(*record(F.col("payload"), F.col("origin")))


def _at(answer: Any, path: str) -> Any:
    for part in filter(None, path.split(".")):
        answer = answer.get(part) if isinstance(answer, dict) else None
    return answer


def _found(answer: Any, path: str) -> Any:
    """What should be the list; empty where the answer says null in its place, as Go does."""
    before, _, last = path.rpartition(".")
    place = _at(answer, before)
    said_null = isinstance(place, dict) and last in place and place[last] is None
    return [] if answer is PAST or answer is None or said_null else _at(answer, path)


def _keys(answer: Any) -> str:
    return ", ".join(sorted(answer)) if isinstance(answer, dict) else type(answer).__name__


def _retry_after(text: str | None) -> float | None:
    """Seconds, or the date until which to wait."""
    if text is None:
        return None
    if text.strip().isdigit():
        return float(text)
    try:
        until = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (until - datetime.now(UTC)).total_seconds())


def _time(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def _text(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")
