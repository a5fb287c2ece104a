"""Which fields of a record a mapping speaks of: its texts are SQL, records are maps of texts."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from recsys_lib.expressions import column

UNRESOLVED = re.compile(r"with name ((?:`(?:[^`]|``)*`\.?)+) cannot be resolved")
PART = re.compile(r"`((?:[^`]|``)*)`")
Tree = dict[str, "Tree"]


def referred(texts: Iterable[str], known: Iterable[str], rows: DataFrame) -> Tree:
    """Fields that `texts` name, with the parts of nested ones: {"user": {"id": {}}, "price": {}}.

    A text that is the name of a known field is that field, however odd the name. Nothing is said
    here of texts that are no SQL; checking the mapping does.
    """
    names = set(known)
    tree: Tree = {}
    for text in texts:
        if text in names:
            tree = _with(tree, [text])
        else:
            tree = _of_sql(text, tree, rows)
    return tree


def text_columns(tree: Tree, record: Column) -> list[Column]:
    """Each field as a column of text, a nested one as a struct of texts; `record` is a variant."""
    if not tree:
        return []
    named = F.try_variant_get(record, "$", _ddl(tree))
    return [named.getField(name).alias(name) for name in tree]


def kinds_of(tree: Tree) -> dict[str, str]:
    """The type of each field as `text_columns` gives it."""
    return {name: _ddl(inner) if inner else "string" for name, inner in tree.items()}


def no_columns(tree: Tree) -> list[Column]:
    """The same columns, all null: enough to see whether SQL can be made of them."""
    fields = T.DataType.fromDDL(_ddl(tree)) if tree else T.StructType()
    assert isinstance(fields, T.StructType)
    return [F.lit(None).cast(field.dataType).alias(field.name) for field in fields]


def _of_sql(text: str, tree: Tree, rows: DataFrame) -> Tree:
    """Spark itself says which name it cannot resolve, one at a time."""
    for _ in range(200):
        try:
            empty = rows.select(*no_columns(tree))
            empty.select(column(text, empty))
        except AnalysisException as error:
            found = UNRESOLVED.search(str(error))
            if found is None:
                return tree
            parts = [part.replace("``", "`") for part in PART.findall(found.group(1))]
            grown = _with(tree, parts)
            if grown == tree:
                return tree
            tree = grown
        except PySparkException:
            return tree
        else:
            return tree
    return tree


def _with(tree: Tree, parts: list[str]) -> Tree:
    if not parts:
        return tree
    first, *rest = parts
    same = next((name for name in tree if name.lower() == first.lower()), first)
    return {**tree, same: _with(tree.get(same, {}), rest)}


def _ddl(tree: Tree) -> str:
    quoted = (f"`{name.replace('`', '``')}`: {kind}" for name, kind in kinds_of(tree).items())
    return f"struct<{', '.join(quoted)}>"
