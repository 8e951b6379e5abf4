"""Your own tagged words: a file of columns (CoNLL-2003, WNUT, wikigold), or a folder with one for each split."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from cotuning_tune.data.text._columns import read_columns
from cotuning_tune.data.text._files import TextFiles, read_splits
from cotuning_tune.data.text._tags import entity_counts, rarest_type, rarity
from cotuning_tune.data.text._text_set import TaggedSet, Texts
from cotuning_tune.hyper import hyper


def rarest_types(classes: Sequence[Sequence[str]]) -> list[int]:
    """Of each sentence a number for the rarest type of entity in it, 0 where it has none."""
    rare_first = rarity(entity_counts(classes))
    numbers = {kind: number for number, kind in enumerate(["", *rare_first])}
    return [numbers[rarest_type(tags, rare_first)] for tags in classes]


class ColumnFiles(TaggedSet):
    """A word and its columns a line, an empty line after each sentence; the tag is the last column (BIO, IOB1,
    BIOES)."""

    layout = """
    FOLDER/train.txt, dev.txt, test.txt (or one file):
      word ... tag     columns parted by spaces or tabs
                       an empty line ends a sentence, -DOCSTART- begins a document
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(TextFiles):
        groups: Literal["sentence", "document"] = hyper(
            "sentence", doc="document: no drawn split tears one apart (its marks stand in the file)"
        )

    def _read(self, path: Path) -> Texts:
        found = read_columns(path, self.config.encoding)
        sentences = found.sentences
        groups = [f"{path.name} {s.document}" for s in sentences] if self.config.groups == "document" else None
        names = [f"{path.name} line {s.line}" for s in sentences]
        return Texts(names, [s.words for s in sentences], [s.tags for s in sentences], groups, found.notes)

    @cached_property
    def _splits(self) -> dict[str, Texts]:
        return read_splits(self.config, self._read, lambda texts: rarest_types(texts.classes))

    def texts(self, split: str) -> Texts | None:
        return self._splits.get(split)

    def grouping(self) -> str:
        return "document" if self.config.groups == "document" else ""
