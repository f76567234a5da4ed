"""Tables as frames of the libraries that notebooks use; these are no dependencies of ours."""

from importlib import import_module
from typing import Any

import pyarrow as pa

from otel_agentperf.errors import UsageError

__all__ = ["to_pandas", "to_polars"]


def to_pandas(table: pa.Table) -> Any:
    """The table as a `pandas.DataFrame`; whole numbers with NULLs stay whole numbers.

    Raises:
        UsageError: pandas is not installed.
    """
    pandas = _library("pandas")
    kinds = {
        pa.int64(): pandas.Int64Dtype(),
        pa.bool_(): pandas.BooleanDtype(),
        pa.string(): pandas.StringDtype(),
    }
    return table.to_pandas(types_mapper=kinds.get)


def to_polars(table: pa.Table) -> Any:
    """The table as a `polars.DataFrame`.

    Raises:
        UsageError: polars is not installed.
    """
    return _library("polars").from_arrow(table)


def _library(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as problem:
        raise UsageError(f"{name} is not installed; pip install 'otel-agentperf[{name}]'") from problem
