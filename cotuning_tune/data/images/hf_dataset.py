"""A data set of Hugging Face with the images in it: the folder of ``save_to_disk``, or Parquet files of the Hub.

The images are unpacked once, into the cache, as they are: nothing is decoded or compressed anew. Read by pyarrow; the
package ``datasets`` is not needed.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cotuning_tune.base.errors import UserError, first_line
from cotuning_tune.base.files import leaves
from cotuning_tune.base.pixels import ENDINGS
from cotuning_tune.base.unpack import Target, unpacked
from cotuning_tune.base.walk import is_debris
from cotuning_tune.data.images._lists import SPLIT_OF, UNUSED, Content, ListedImages, Patterns, Row, by_split, needed
from cotuning_tune.data.images._tables import GUESSES, arrow
from cotuning_tune.hyper import hyper

DICT, STATE, INFO = "dataset_dict.json", "state.json", "dataset_info.json"
SHARDS = (".parquet", ".arrow")
MAGIC = {
    b"\xff\xd8\xff": ".jpg",
    b"\x89PNG": ".png",
    b"GIF8": ".gif",
    b"BM": ".bmp",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
}
BATCH = 64
END = b"\xff\xff\xff\xff\0\0\0\0"


class HfDataset(ListedImages):
    """Images of one column, classes of another. Classes have the order and the names of a ``ClassLabel``.

    Raises UserError for a folder that is none, for columns that cannot be told, for a row without an image or a label.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        root: str = hyper("", path=True, doc="the folder of save_to_disk, or of .parquet files; needed")
        image: str = hyper("", doc="column of the images; default: the only one of images")
        label: str = hyper("", doc="column of the labels; default: the only one of class labels, or label, class, ...")
        splits: Patterns = field(default_factory=Patterns)
        test_fraction: float = hyper(0.2, doc="share of each class to test, where there are no splits")
        split_seed: int = hyper(0, doc="of the test share")

    layout = """
    a folder of Dataset.save_to_disk or DatasetDict.save_to_disk: dataset_dict.json, train/data-00000-of-00001.arrow
      or of Parquet files: data/train-00000-of-00001.parquet, data/test-00000-of-00001.parquet
    """

    @property
    def where(self) -> Path:
        return Path(self.config.root).expanduser().resolve()

    def read(self) -> Content:
        root = needed(self.config.root, "a data set of Hugging Face")
        parts = self._parts(root)
        splits, unused = by_split(root, [*parts], self.config.splits)
        used = {part: parts[part] for part in splits}
        columns = {"image": self.config.image, "label": self.config.label}
        files = [file for found in used.values() for file in found]
        relative = {part: [str(file.relative_to(root)) for file in found] for part, found in used.items()}
        arrow(files[0])
        found = unpacked("arrow", root, files, [columns, relative], lambda to: _Reader(to, columns).read(used))
        rows = [Row(name, label, splits[part]) for part, name, label in found.record["rows"]]
        return Content(found.root, rows, found.record["classes"], {UNUSED: unused})

    def _parts(self, root: Path) -> dict[str, list[Path]]:
        """The files of each part: of a split by its name, of shards each by its path, of a single data set ''."""
        if not root.is_dir():
            raise UserError(f"{root} is not a folder (root of a data set of Hugging Face)")
        if (root / DICT).is_file():
            names = _json(root / DICT).get("splits")
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise UserError(f"{root / DICT} lists no splits")
            if outside := next(filter(leaves, names), None):
                raise UserError(f"{root / DICT}: {outside!r} leads out of {root}")
            return {name: _saved(root / name) for name in names}
        if (root / STATE).is_file():
            return {"": _saved(root)}
        below = sorted(path.relative_to(root) for path in root.rglob("*") if path.suffix.lower() in SHARDS)
        found = [path for path in below if not any(map(is_debris, path.parts))]
        if not found:
            raise UserError(f"{root} has no {DICT}, no {STATE} and no .parquet file: the folder of save_to_disk has")
        folders = {path.parent.parent if path.parent.name.lower() in SPLIT_OF else path.parent for path in found}
        if len(folders) > 1 and not any(vars(self.config.splits).values()):
            one, other, *_ = sorted(map(str, folders))
            raise UserError(f"{root} holds several data sets, in {one}/ and {other}/: set root to one of these")
        return {path.as_posix(): [root / path] for path in found}


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path.parent} has no {path.name}") from None
    except (OSError, ValueError, RecursionError) as problem:
        raise UserError(f"{path} cannot be read: {first_line(problem)}") from None
    if not isinstance(found, dict):
        raise UserError(f"{path} is not what save_to_disk writes")
    return found


def _saved(folder: Path) -> list[Path]:
    """The files of a saved data set. Raises UserError for one whose rows are chosen by an index of old versions."""
    state = _json(folder / STATE)
    if state.get("_indices_data_files") or state.get("_indices_files"):
        raise UserError(f"{folder} holds an index of its rows: save it anew, by flatten_indices().save_to_disk")
    try:
        names = [str(file["filename"]) for file in state["_data_files"]]
    except (KeyError, TypeError):
        raise UserError(f"{folder / STATE} names no data files") from None
    if outside := next(filter(leaves, names), None):
        raise UserError(f"{folder / STATE}: {outside!r} leads out of {folder}")
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise UserError(f"{folder} lacks {missing[0]}, which its {STATE} names")
    if not names:
        raise UserError(f"{folder / STATE} names no data files")
    return [folder / name for name in names]


class _Reader:
    """Writes the images of some files into a target; what it returns are rows of part, name and label, and classes."""

    def __init__(self, target: Target, columns: Mapping[str, str]) -> None:
        self.target, self.columns = target, columns
        self.classes: dict[str, None] = {}
        self.files = 0

    def read(self, parts: Mapping[str, Sequence[Path]]) -> dict[str, Any]:
        rows = []
        for part, files in parts.items():
            folder = part.rpartition(".")[0] if Path(part).suffix.lower() in SHARDS else part
            for number, (data, ending, label) in enumerate(row for file in files for row in self._rows(file)):
                name = f"{folder}/{number:06d}{ending}".lstrip("/")
                self.target.add(name, data, files[0])
                rows.append((part, name, label))
        return {"rows": rows, "classes": [*self.classes]}

    def _rows(self, file: Path) -> Iterator[tuple[bytes, str, str]]:
        """Bytes, ending and label of each image of a file."""
        package = arrow(file)
        try:
            schema, batches = _opened(package, file)
            features = _features(file, schema)
            image, label = self._image(file, schema, features), self._label(file, schema, features)
            names = features.get(label, {}).get("names") if _is(features.get(label), "ClassLabel") else None
            self._add_classes(file, label, names)
            number = 0
            for batch in batches([image, label]):
                for place in range(batch.num_rows):
                    number += 1
                    at = f"{file} row {number}"
                    data, ending = _image(at, image, batch.column(image)[place].as_py())
                    yield data, ending, _label(at, label, batch.column(label)[place].as_py(), names)
        except (package.ArrowException, OSError, KeyError) as problem:
            raise UserError(f"{file} cannot be read: {first_line(problem)}") from None

    def _add_classes(self, file: Path, label: str, names: Sequence[Any] | None) -> None:
        """The names of a file's classes beside those of the files before. Raises UserError where only some have any."""
        if self.files and bool(names) != bool(self.classes):
            which, other = ("names", "do not") if names else ("does not name", "do")
            raise UserError(f"{file} {which} the classes of {label}, files before {other}: save them alike")
        self.files += 1
        self.classes.update(dict.fromkeys(map(str, names or ())))

    def _image(self, file: Path, schema: Any, features: Mapping[str, Any]) -> str:
        found = [name for name in schema.names if _is(features.get(name), "Image") or _holds_bytes(schema, name)]
        name = self._one(file, "image", found, schema.names)
        if not (_holds_bytes(schema, name) or "binary" in str(schema.field(name).type)):
            raise UserError(f"{file}: {name} holds {schema.field(name).type}, no image files")
        return name

    def _label(self, file: Path, schema: Any, features: Mapping[str, Any]) -> str:
        found = [name for name in schema.names if _is(features.get(name), "ClassLabel")]
        guessed = [name for name in GUESSES["label"] if name in schema.names][:1]
        return self._one(file, "label", found or guessed, schema.names)

    def _one(self, file: Path, what: str, found: Sequence[str], names: Sequence[str]) -> str:
        """The column that the options name, or the only one there is."""
        given = self.columns[what]
        if given and given not in names:
            raise UserError(f"{file} has no column {given} ({what}): there are {', '.join(names)}")
        if not given and len(found) != 1:
            which = f"several columns of {what}s, {' and '.join(found)}" if found else f"no column of {what}s"
            raise UserError(f"{file} has {which}: say {what} = one of {', '.join(names)}")
        return given or found[0]


def _opened(package: Any, file: Path) -> tuple[Any, Any]:
    """The schema of a file, and what gives its batches of some columns."""
    if file.suffix.lower() == ".parquet":
        parquet = package.parquet.ParquetFile(file)
        return parquet.schema_arrow, lambda columns: parquet.iter_batches(BATCH, columns=columns)
    with file.open("rb") as opened:
        opened.seek(max(0, file.stat().st_size - len(END)))
        if opened.read() != END:  # pyarrow takes a file that is cut between two batches for a whole one
            raise UserError(f"{file} is cut off: it has not the end of an Arrow stream")
    source = package.memory_map(str(file))
    stream = package.ipc.open_stream(source)

    def batches(columns: list[str]) -> Iterator[Any]:
        for batch in stream:
            chosen = batch.select(columns)
            chosen.validate(full=True)  # offsets of a damaged file would lead anywhere
            yield chosen
        if source.tell() != source.size():  # zeros look like the end of a stream of old versions
            raise UserError(f"{file} is damaged at byte {source.tell()}: more follows the end of its rows")

    return stream.schema, batches


def _features(file: Path, schema: Any) -> dict[str, Any]:
    """What ``datasets`` says of the columns, in the file itself or beside it; nothing where it says nothing."""
    try:
        found = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError, RecursionError):
        found = _json(file.with_name(INFO)).get("features") if file.with_name(INFO).is_file() else {}
    return found if isinstance(found, dict) else {}


def _is(feature: Any, kind: str) -> bool:
    return isinstance(feature, dict) and feature.get("_type") == kind


def _holds_bytes(schema: Any, name: str) -> bool:
    """Whether a column is a struct of an image's bytes and path."""
    kind = schema.field(name).type
    return str(kind).startswith("struct<") and kind.get_field_index("bytes") >= 0


def _image(at: str, column: str, value: Any) -> tuple[bytes, str]:
    data, path = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
    if data is None and path:
        raise UserError(f"{at}: {column} names the file {path} and does not hold it: embed the images when saving")
    if data is None:
        raise UserError(f"{at}: {column} holds no image")
    ending = Path(str(path or "")).suffix.lower()
    return data, ending if ending in ENDINGS else next((e for m, e in MAGIC.items() if data.startswith(m)), "")


def _label(at: str, column: str, value: Any, names: Sequence[Any] | None) -> str:
    if value is None or value == "" or (names and value == -1):
        raise UserError(f"{at}: no label in {column}")
    if isinstance(value, (list, dict, bytes)):
        raise UserError(f"{at}: {column} holds {value!r:.40}; one class is needed")
    if not names:
        return str(value).strip()
    if not isinstance(value, int) or not 0 <= value < len(names):
        raise UserError(f"{at}: {value} in {column}; 0 to {len(names) - 1} are possible")
    return str(names[value])
