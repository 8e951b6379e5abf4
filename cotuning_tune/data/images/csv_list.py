"""Your own list: a CSV, TSV, JSON Lines or Parquet file with path, label and, if you have it, split of each image."""

from dataclasses import dataclass
from pathlib import Path

from cotuning_tune.base.errors import UserError
from cotuning_tune.data.images._lists import Content, ListedImages
from cotuning_tune.data.images._tables import ImageTable
from cotuning_tune.hyper import hyper


class CsvList(ListedImages):
    """Images named in a table; without a column of splits a fixed share of each class is the test split.

    The ending says what the table is: ``.parquet``, ``.jsonl``, and any other for CSV or TSV, whose first row names the
    columns. Paths start at ``root``, the table's folder by default, and stay in it. Labels are texts: the number 1 is
    the class ``1``. Raises UserError with the line, of Parquet the row.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        file: str = hyper("", path=True, doc="the CSV, TSV, JSON Lines or Parquet file; needed")
        root: str = hyper("", path=True, doc="folder that the paths start at and stay in; default: the table's")
        path: str = hyper("", doc="column of the paths; default: path, file, image, ...")
        label: str = hyper("", doc="column of the labels; default: label, class, ...")
        split: str = hyper("", doc="column of train, val, test; default: split, part, ... where there is one")
        group: str = hyper(
            "", doc="column of what no drawn split may tear apart; default: group, patient_id, ...; none"
        )
        test_fraction: float = hyper(0.2, doc="share of each class to test, where there is no column of splits")
        split_seed: int = hyper(0, doc="of the test share")

    layout = """
    a file as: path,label,split / pictures/one.jpg,robin,train / ... with the split column or without
    """

    @property
    def where(self) -> Path:
        return Path(self.config.file).expanduser().resolve()

    def read(self) -> Content:
        config = self.config
        if not config.file:
            raise UserError("a list of images needs its path: set file in its [data.NAME] table")
        root = Path(config.root).expanduser().resolve() if config.root else self.where.parent
        given = Path(config.root or Path(config.file).parent).expanduser().absolute()
        table = ImageTable(self.where, (root, given), vars(config))
        return Content(root, table.rows(), grouping=table.group)
