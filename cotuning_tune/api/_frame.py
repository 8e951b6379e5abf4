"""Tables for Python."""

from typing import Any


def frame(rows: list[dict[str, Any]]) -> Any:
    """The rows as a pandas DataFrame, where pandas is installed, else as they are."""
    try:
        import pandas
    except ImportError:
        return rows
    return pandas.DataFrame(rows)
