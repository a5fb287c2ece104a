"""Mapping texts -> Spark columns: a column's name, or SQL over the columns of a log."""

from __future__ import annotations

import re
from collections.abc import Mapping as Named
from difflib import get_close_matches

from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from recsys_lib.errors import SettingsError

Prefix = tuple[str, ...]
CORRUPT = "_corrupt_record"
PAYLOAD = "_payload"  # the record as it first came, where it is parsed once more
EXACT = float(1 << 53)  # a double has every whole number below
NUMBER = r"[-+]?\d+(?:\.\d+)?"
OPERATOR = r"(?:<=>|<=|>=|<>|!=|==|=|<|>)"


def column(text: str, rows: DataFrame) -> Column:
    """`text` as a column of `rows`: the column so named, however odd its name, or SQL."""
    if text in rows.columns:
        return F.col(f"`{text}`")
    strings = [f.name for f in rows.schema if isinstance(f.dataType, T.StringType)]
    return F.expr(_numbers_as_numbers(text, strings))


def identifier(text: str, rows: DataFrame) -> Column:
    """An id as a clean string: 12345, never 12345.0; trimmed; blank and NaN are null."""
    found = column(text, rows)
    kind = rows.select(found.alias("id")).schema["id"].dataType
    if isinstance(kind, (T.FloatType, T.DoubleType, T.DecimalType)):
        whole = found.cast("bigint")
        plain = found == whole if isinstance(kind, T.DecimalType) else is_whole(found)
        found = F.when(plain, whole.cast("string")).otherwise(found.cast("string"))
    elif isinstance(kind, (T.StructType, T.ArrayType, T.MapType)):
        found = F.to_json(found)
    name = F.trim(found.cast("string"))
    none = F.when(name.isin("", "NaN", "nan"), F.lit(None))
    if not isinstance(kind, T.StringType):
        return none.otherwise(name)
    # pandas writes integer ids with gaps as 17850.0
    plain = F.regexp_replace(name, r"^([-+]?\d+)\.0+$", "$1")
    # From ten millions on Java's text of the same number is 1.7850123E7.
    number = name.cast("double")
    java = name.contains("E") & name.rlike(r"^-?\d\.\d+E([7-9]|1[0-5])$") & is_whole(number)
    # Few have such an end: an expression that every row went through would cost more than
    # opening its record.
    whole = none.when(java, number.cast("bigint").cast("string"))
    return whole.when(name.contains(".0"), plain).otherwise(name)


def is_whole(number: Column) -> Column:
    """Whether a number is a whole one, of which every digit is known."""
    return (number == number.cast("bigint")) & (F.abs(number) < F.lit(EXACT))


def stamp(value: Column) -> Column:
    """A constant that differs from one micro-batch to the next, in any expression.

    Spark writes numbers and times into the code that it compiles, which then serves once. An array
    is handed to the code, and where in it to look is not known before it runs.
    """
    return F.get(F.array(value), F.least(F.spark_partition_id(), F.lit(0)))


def arrival(number: int) -> dict[str, Column]:
    """What bronze says of how a row came: when, and in which micro-batch of its stream."""
    return {
        "arrived": stamp(F.current_timestamp()),
        "batch": stamp(F.lit(number).cast("bigint")),
    }


def faults(texts: Named[str, str | None], rows: DataFrame, *, boolean: Prefix = ()) -> list[str]:
    """What is wrong with each named text, against the columns that `rows` has.

    Names that start with one of `boolean` must be conditions.
    """
    found: list[str] = []
    for name, text in texts.items():
        if text is None:
            continue
        try:
            kind = rows.select(column(text, rows).alias("it")).schema["it"].dataType
        except PySparkException as error:
            columns = [c for c in rows.columns if c != CORRUPT]
            found = [*found, f"{name}: {_reason(text, error, columns)}"]
            continue
        if name.startswith(boolean) and not isinstance(kind, T.BooleanType):
            got = kind.simpleString()
            found = [*found, f"{name}: {text!r} must be a condition, got a {got}; compare it"]
    return found


def check(source: str, texts: Named[str, str | None], rows: DataFrame) -> None:
    """Raises SettingsError with every fault of `texts` at once."""
    wrong = faults(texts, rows)
    if wrong:
        raise SettingsError(source, wrong)


def _reason(text: str, error: PySparkException, columns: list[str]) -> str:
    missing = re.search(r"with name (`[^\n]*?`) cannot be resolved", str(error))
    if missing is None:
        first = str(error).strip().splitlines()[0]
        return f"{text!r} is not valid SQL here: {first}"
    name = missing.group(1).replace("`.`", ".").strip("`")
    lowered = {c.lower(): c for c in columns}
    near = get_close_matches(name.lower(), list(lowered), n=1, cutoff=0.4)
    hint = f"did you mean {lowered[near[0]]!r}? " if near else ""
    if name == text.strip() and not near:
        hint = f"a constant has quotes of its own: \"'{name}'\"; "
    return f"no column {name!r}; {hint}the log has {', '.join(columns)}"


def _numbers_as_numbers(text: str, strings: list[str]) -> str:
    """Compare text columns with numbers as numbers.

    Spark casts text to the literal's type, an integer: the price '0.42' would be <= 0.
    """
    for name in strings:
        it = rf"(?:`{re.escape(name)}`|(?<![\w`.'])(?i:{re.escape(name)})(?![\w`.'(]))"
        after = rf"({it})(?=\s*{OPERATOR}\s*{NUMBER}|\s+(?i:not\s+)?(?i:between)\s+{NUMBER})"
        before = rf"({NUMBER}\s*{OPERATOR}\s*)({it})"
        text = re.sub(after, r"double(\1)", text)
        text = re.sub(before, r"\1double(\2)", text)
    return text
