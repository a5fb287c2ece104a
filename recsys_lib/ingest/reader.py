"""Fields of JSON objects as columns, in one pass over the text.

Out of a variant each field costs as much as to read the whole text once more, so fields that are
known to hold nothing but text, or nothing but numbers, come from the text itself. Both say the same
of them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

STRUCT = "__fields"


class FieldReader:
    """`wanted`: pairs of a field and its type, a field perhaps more than once. `strange` and
    `numbers` are as in Survey."""

    def __init__(
        self,
        wanted: Sequence[tuple[str, str]],
        strange: Collection[str],
        numbers: Collection[str] = (),
    ) -> None:
        kinds: dict[str, set[str]] = {}
        for name, kind in wanted:
            kinds.setdefault(name, set()).add(kind)
        self._places = {name: place for place, name in enumerate(kinds)}
        plain = {"string": set(kinds) - set(strange), "double": set(numbers)}
        self._plain = {
            name: kind
            for name, (kind, *more) in kinds.items()
            if not more and name in plain.get(kind, ())
        }

    def open(self, rows: DataFrame, *kept: Column) -> DataFrame:
        """`kept`, and what `field` needs, of rows with a `payload` that is an object if `whole`."""
        if not self._places:
            return rows.select(*kept)
        types = {"string": T.StringType(), "double": T.DoubleType()}
        read = [
            T.StructField(name, types.get(self._plain.get(name, ""), T.VariantType()))
            for name in self._places
        ]
        # By place, because names may differ in case alone.
        placed = [T.StructField(f"f{place}", f.dataType) for place, f in enumerate(read)]
        # Where Spark would keep what it cannot read: any name but that of a field.
        corrupt = "_" * (1 + max(map(len, self._places)))
        options = {"columnNameOfCorruptRecord": corrupt}
        struct = F.from_json("payload", T.StructType(read), options).cast(T.StructType(placed))
        return rows.select(*kept, F.when(F.col("whole"), struct).alias(STRUCT))

    def field(self, name: str, kind: str) -> Column:
        """Null where there is none, or another kind of value."""
        found = F.col(STRUCT).getField(f"f{self._places[name]}")
        return found if name in self._plain else F.try_variant_get(found, "$", kind)

    def fields(self, wanted: Mapping[str, str]) -> list[Column]:
        return [self.field(name, kind).alias(name) for name, kind in wanted.items()]
