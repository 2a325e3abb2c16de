"""Rows out of tables (Parquet, CSV) without loss: what a column holds is what a row gets.

A number of 32 bits is the shortest decimal that it stands for, a date or time its ISO text, a decimal its own digits.
A table gives every row all keys that any row has, with null where a row had none: such nulls are left out of objects,
since the table does not know them from real ones; those in lists stay. Text in a CSV file stays text.
"""

import base64
import csv
import math
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from fledgling import strict_json
from fledgling.artefacts import Json, JsonObject
from fledgling.data.invalid import Unusable
from fledgling.data.text_files import Raw
from fledgling.errors import DataError

if TYPE_CHECKING:
    import pyarrow  # type: ignore[import-untyped]

ROWS = 512  # read at once
_CELL = 1 << 24  # characters of one cell of a CSV file


def parquet_rows(path: Path) -> Iterator[Raw]:
    """The rows of a Parquet file, numbered from 1.

    Raises:
        DataError: not a Parquet file that can be read to its end.
    """
    import pyarrow
    import pyarrow.parquet  # type: ignore[import-untyped]

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as table:
            columns = table.schema_arrow
            kinds = dict(zip(columns.names, columns.types, strict=True))
            if len(kinds) < len(columns.names):
                raise DataError(f"{path}: two columns have one name ({', '.join(columns.names)}); rename one")
            for batch in table.iter_batches(ROWS):
                for row in batch.to_pylist():
                    number += 1
                    try:
                        yield number, _object(row, kinds)
                    except ValueError as error:
                        yield number, Unusable("column", str(error))
    except (pyarrow.ArrowException, OSError, ValueError) as error:  # two fields of one name, text that is not UTF-8
        raise DataError(f"{path}: cannot be read to its end ({error}); replace the file") from None


def csv_rows(path: Path) -> Iterator[Raw]:
    """The rows of a CSV file with a header, every cell a text; empty cells are left out.

    Raises:
        DataError: not UTF-8, or not CSV.
    """
    csv.field_size_limit(_CELL)
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            names = list(reader.fieldnames or ())
            if len(set(names)) < len(names):
                raise DataError(f"{path}: two columns have one name ({', '.join(names)}); rename one")
            for row in reader:
                if None in row or None in row.values():
                    yield reader.line_num, Unusable("column", "the row has more or fewer cells than the header")
                else:
                    yield reader.line_num, {name: cell for name, cell in row.items() if cell != ""}
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not CSV in UTF-8 ({error}); replace the file") from None


def _object(row: dict[str, object], kinds: "dict[str, pyarrow.DataType]") -> JsonObject:
    return {name: _value(item, kinds[name]) for name, item in row.items() if item is not None}


def _value(value: object, kind: "pyarrow.DataType") -> Json:
    """A cell, or a part of one, as JSON; its column's type says how many digits it has and what is a map."""
    import pyarrow.types  # type: ignore[import-untyped]

    if value is None or isinstance(value, (bool, int, str)):
        return value
    if pyarrow.types.is_dictionary(kind):
        return _value(value, kind.value_type)
    if isinstance(value, dict):
        inside = {field.name: field.type for field in kind}
        return {str(name): _value(item, inside[name]) for name, item in value.items() if item is not None}
    if isinstance(value, list) and pyarrow.types.is_map(kind):
        if len({str(name) for name, _ in value}) < len(value):
            raise ValueError("a map has one key twice; leave one of them out")
        return {str(name): _value(item, kind.item_type) for name, item in value}
    if isinstance(value, list):
        return [_value(item, kind.value_type) for item in value]
    if isinstance(value, float):
        return _number(value, kind)
    if isinstance(value, Decimal):
        whole = value == value.to_integral_value()
        return int(value) if whole else strict_json.loads(str(value)) if value.is_finite() else _refuse(value)
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        return _bytes(value)
    if isinstance(value, UUID):
        return str(value)
    return _refuse(value)


def _number(value: float, kind: "pyarrow.DataType") -> float:
    """A number with the digits that its bits stand for and no others."""
    import pyarrow.types

    if not math.isfinite(value):
        return _refuse(value)
    if pyarrow.types.is_float32(kind) or pyarrow.types.is_float16(kind):
        import numpy as np

        return float(str(np.float32(value) if pyarrow.types.is_float32(kind) else np.float16(value)))
    return value


def _bytes(value: bytes) -> str:
    """The text that bytes are: older writers mark no column as text. What is no text is base64."""
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        text = "\0"
    return base64.b64encode(value).decode("ascii") if "\0" in text else text


def _refuse(value: object) -> float:
    raise ValueError(f"{value!r} ({type(value).__name__}) has no form in JSON; write the column as text")
