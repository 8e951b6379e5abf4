"""Your own texts with one class each: a CSV or TSV file of text and label, or a folder with one for each split."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cotuning_tune.base.errors import UserError
from cotuning_tune.data.text._columns import text_lines
from cotuning_tune.data.text._files import TextFiles, read_splits
from cotuning_tune.data.text._text_set import ClassifiedSet, Texts
from cotuning_tune.hyper import hyper

TEXTS, LABELS = ("text", "sentence", "review"), ("label", "class", "category", "sentiment")


class TextCsv(ClassifiedSet):
    """A header names the columns; a text is cut at spaces into words, and sees no more of it than ``max_length``."""

    layout = """
    FOLDER/train.csv, dev.csv, test.csv (or one file; .tsv parted by tabs):
      text,label
      "a charming film",positive
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(TextFiles):
        text: str = hyper("", doc="column of the text (default: text, sentence, review)")
        label: str = hyper("", doc="column of the class (default: label, class, category, sentiment)")

    def _column(self, path: Path, header: Sequence[str], asked: str, known: Sequence[str]) -> int:
        wanted = [asked] if asked else list(known)
        for name in wanted:
            if name in header:
                return list(header).index(name)
        what = f"no column {' or '.join(wanted)}"
        raise UserError(f"{path} line 1: {what}; there are: {', '.join(header)}")

    def _read(self, path: Path) -> Texts:
        lines = [line for _, line in text_lines(path, self.config.encoding)]
        reader = csv.reader((f"{line}\n" for line in lines), delimiter="\t" if path.suffix == ".tsv" else ",")
        header = next(reader, [])
        if not header:
            raise UserError(f"{path} is empty: a header with the names of the columns is needed")
        at_text = self._column(path, header, self.config.text, TEXTS)
        at_label = self._column(path, header, self.config.label, LABELS)
        names, words, classes = [], [], []
        for row in reader:
            line = reader.line_num
            if not row or row == [""]:
                continue
            if len(row) != len(header):
                raise UserError(f"{path} line {line}: {len(row)} columns, and the header has {len(header)}")
            if not row[at_text].split() or not row[at_label].strip():
                raise UserError(f"{path} line {line}: its {'label' if row[at_text].split() else 'text'} is empty")
            names.append(f"{path.name} line {line}")
            words.append(row[at_text].split())
            classes.append([row[at_label].strip()])
        if not names:
            raise UserError(f"{path} has no row below its header")
        return Texts(names, words, classes)

    @cached_property
    def _splits(self) -> dict[str, Texts]:
        def strata(texts: Texts) -> list[int]:
            known = sorted({one[0] for one in texts.classes})
            return [known.index(one[0]) for one in texts.classes]

        found = read_splits(self.config, self._read, strata)
        if len({one[0] for one in found["train"].classes}) < 2:
            raise UserError(f"{self.config.root}: all training texts have one label: two classes or more are needed")
        return found

    def texts(self, split: str) -> Texts | None:
        return self._splits.get(split)
