"""Hugging Face's imagefolder: images and a metadata.csv, metadata.jsonl or metadata.parquet with their labels.

The table lies in the folder, then splits are the first folders of the names in it (``train/0.jpg``) or a column; or one
lies in each split's folder. Its column ``file_name`` is relative to the table. Without a column of labels the class of
an image is the name of the folder that it lies in.
"""

from dataclasses import dataclass
from pathlib import Path, PurePath

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.walk import is_debris, sub_folders, walk
from cotuning_tune.data.images._lists import SPLIT_OF, Content, ListedImages, Row, needed
from cotuning_tune.data.images._tables import ImageTable
from cotuning_tune.hyper import hyper

TABLES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")


class HfImagefolder(ListedImages):
    """A folder of images with metadata files. Images that these do not name are not taken, and told.

    Raises UserError for a folder without such a table, for mistakes in one with its line, and for two in one folder.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        root: str = hyper("", path=True, doc="the folder; needed")
        path: str = hyper("", doc="column of the paths; default: file_name")
        label: str = hyper("", doc="column of the labels; default: label, class, ..., or else the images' folder")
        split: str = hyper("", doc="column of train, val, test; default: split, ..., or else the first folder")
        group: str = hyper("", doc="column of what no drawn split may tear apart; default: group, ...; none")
        test_fraction: float = hyper(0.2, doc="share of each class to test, where there are no splits")
        split_seed: int = hyper(0, doc="of the test share")

    layout = """
    a folder with metadata.csv, as: file_name,label / train/0001.jpg,robin / test/0002.jpg,wren
      or train/metadata.csv with train/0001.jpg, test/metadata.csv with test/0002.jpg; .jsonl and .parquet as well
    """

    @property
    def where(self) -> Path:
        return Path(self.config.root).expanduser().resolve()

    def read(self) -> Content:
        root = needed(self.config.root, "an imagefolder of Hugging Face")
        if not root.is_dir():
            raise UserError(f"{root} is not a folder (root of an imagefolder of Hugging Face)")
        if table := _table(root):
            rows, tables = self._rows(table), [table.name]
            if not any(row.split for row in rows):
                rows = self._by_first_folder(rows)
        else:
            found = self._tables_of_splits(root)
            rows = [row for folder, table in found.items() for row in self._rows(table, folder)]
            tables = [f"{folder}/{table.name}" for folder, table in found.items()]
        listed = {row.name for row in rows}
        there = walk(root)
        left = {reason: [n for n in names if n not in tables] for reason, names in there.passed.items()}
        left["named in no metadata file"] = [name for name in there.images if name not in listed]
        return Content(root, rows, passed=left, grouping=self._column)

    def _tables_of_splits(self, root: Path) -> dict[str, Path]:
        """The table of each folder that is called like a split."""
        folders = list(sub_folders(root).values())
        found = {folder: table for folder in folders if (table := _table(root / folder))}
        if not found:
            raise UserError(f"{root} has no {', '.join(TABLES)}, and none of its folders has: {', '.join(folders)}")
        if strange := [folder for folder in found if folder.lower() not in SPLIT_OF]:
            raise UserError(f"{root}: {strange[0]}/ has a table, but is not a split: {', '.join(SPLIT_OF)} are")
        if lacking := [folder for folder in folders if folder.lower() in SPLIT_OF and folder not in found]:
            raise UserError(f"{root}: {lacking[0]}/ has none of {', '.join(TABLES)}, but {next(iter(found))}/ has")
        return found

    def _rows(self, table: Path, folder: str = "") -> list[Row]:
        """The rows of a table, names below the root; in a split's folder all are of that split."""
        config = self.config
        columns = {**vars(config), "path": config.path or "file_name"}
        optional = ("split", "group") if config.label else ("label", "split", "group")
        reader = ImageTable(table, (self.where,), columns, before=folder, optional=optional)
        rows, self._column = reader.rows(), reader.group
        if not reader.has_label:
            rows = [row._replace(label=self._class_of(table, row.name)) for row in rows]
        return [row._replace(split=SPLIT_OF[folder.lower()]) for row in rows] if folder else rows

    def _class_of(self, table: Path, name: str) -> str:
        """The folder that an image lies in."""
        folders = [part for part in PurePath(name).parts[:-1] if not is_debris(part)]
        if folders and folders[0].lower() in SPLIT_OF:
            folders = folders[1:]
        if not folders:
            raise UserError(f"{table} has no column label or class or class_name, and {name} lies in no class folder")
        return folders[-1]

    def _by_first_folder(self, rows: list[Row]) -> list[Row]:
        """Splits by the first folder of each name, where all begin with one; as they are where none does."""
        first = {row.name: SPLIT_OF.get(PurePath(row.name).parts[0].lower(), "") for row in rows}
        if "" in first.values() and set(first.values()) != {""}:
            strange = next(name for name, split in first.items() if not split)
            raise UserError(f"{self.where}: {strange} lies in no folder of a split, others do: {', '.join(SPLIT_OF)}")
        return [row._replace(split=first[row.name]) for row in rows]


def _table(folder: Path) -> Path | None:
    """The metadata file of a folder. Raises UserError where there are two."""
    there = [folder / name for name in TABLES if (folder / name).is_file()]
    if len(there) > 1:
        raise UserError(f"{folder} has {there[0].name} and {there[1].name}: keep one")
    return there[0] if there else None
