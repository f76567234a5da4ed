"""Tables that ClickHouse sends, as DuckDB's types have them."""

from typing import Any

import pyarrow as pa

__all__ = ["as_schema"]


def as_schema(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with names and types of a schema, column by column in their order.

    A list that is empty becomes NULL: ClickHouse's lists cannot be.
    """
    arrays = [_cast(column.combine_chunks(), field.type) for column, field in zip(table.columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def _cast(array: Any, kind: pa.DataType) -> pa.Array:
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0) if array.num_chunks else pa.array([], array.type)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_list(kind) and pa.types.is_list(array.type):
        items = _cast(array.flatten(), kind.value_type)
        lengths = array.value_lengths().fill_null(0)
        offsets = pa.array([0, *pa.compute.cumulative_sum(lengths).to_pylist()], pa.int32())
        empty = pa.compute.equal(lengths, 0)
        return pa.ListArray.from_arrays(offsets, items, type=kind, mask=empty)
    if pa.types.is_struct(kind) and pa.types.is_struct(array.type):
        fields = [_cast(part, kind.field(at).type) for at, part in enumerate(array.flatten())]
        return pa.StructArray.from_arrays(fields, fields=list(kind))
    if pa.types.is_boolean(kind) and not pa.types.is_boolean(array.type):
        return pa.compute.not_equal(array, 0)
    if pa.types.is_map(kind) and pa.types.is_map(array.type):
        return array.cast(kind) if array.type != kind else array
    return array.cast(kind)
