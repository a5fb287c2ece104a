"""Raw records of items and users -> rows whose columns are what the mapping speaks of."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_lib.ingest.records import open_records
from recsys_lib.ingest.references import referred, text_columns


def entity_rows(raw: DataFrame, texts: Sequence[str]) -> DataFrame:
    """One row for each record that is an object: the fields that `texts` name, as text."""
    opened = open_records(raw).where("record IS NOT NULL")
    empty = raw.sparkSession.createDataFrame([], "nothing int")
    # A name that is no SQL, such as `list price`, can only be a field.
    names = [text for text in texts if not text.isidentifier() and _plain(text)]
    return opened.select(*text_columns(referred(texts, names, empty), F.col("record")))


def _plain(text: str) -> bool:
    return text.replace(" ", "").isidentifier()
