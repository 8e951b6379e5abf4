"""Files of tagged words: one a line with its columns, an empty line after each sentence (CoNLL-2003, WNUT,
wikigold)."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cotuning_tune.base.errors import UserError
from cotuning_tune.data.text._tags import UnknownTag, to_bio

DOCUMENT = "-DOCSTART-"
LONG = 1000  # words: so many are hardly one sentence


@dataclass(frozen=True)
class Sentence:
    """Words and their tags (BIO); ``line``: of its first word, from 1; ``document``: its number in the file."""

    words: tuple[str, ...]
    tags: tuple[str, ...]
    line: int
    document: int


@dataclass(frozen=True)
class Columns:
    """The sentences of a file, and what is to be said of it: lines for people, each with file and line."""

    sentences: list[Sentence]
    notes: list[str]


def text_lines(path: Path, encoding: str) -> Iterator[tuple[int, str]]:
    """The lines of a text file with their numbers, from 1. Raises UserError with the line that is not of the
    encoding."""
    try:
        data = path.read_bytes()
    except OSError as problem:
        raise UserError(f"{path} cannot be read: {problem.strerror}") from None
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        try:
            yield number, line.decode(encoding).rstrip("\r")
        except UnicodeDecodeError as problem:
            byte = f"0x{line[problem.start]:02x}"
            cure = "save it as UTF-8, or give its encoding ('latin-1')"
            raise UserError(f"{path} line {number}: the byte {byte} is not {encoding}: {cure}") from None
        except LookupError:
            raise UserError(f"encoding = {encoding!r}: Python knows none of that name ('utf-8', 'latin-1')") from None


def _columns(path: Path, number: int, line: str) -> tuple[str, str]:
    """Word and tag of a line: its first and its last column."""
    parts = [part.strip() for part in line.split("\t")] if "\t" in line else line.split()
    if len(parts) < 2:
        raise UserError(f"{path} line {number}: there is one column ({parts[0]!r}), and a word and its tag are needed")
    if not parts[0] or not parts[-1]:
        what = "word" if not parts[0] else "tag"
        raise UserError(f"{path} line {number}: its {what} is empty")
    return parts[0], parts[-1]


def _sentence(path: Path, words: list[tuple[int, str, str]], document: int) -> Sentence:
    lines, texts, tags = zip(*words, strict=True)
    try:
        return Sentence(texts, tuple(to_bio(tags)), lines[0], document)
    except UnknownTag as problem:
        raise UserError(f"{path} line {lines[problem.place]}: {problem}") from None


def read_columns(path: Path, encoding: str = "utf-8") -> Columns:
    """All sentences of a file, the tags as BIO whichever scheme they are in.

    Raises UserError with file and line: one column, an empty word or tag, a tag that is none, bytes of another
    encoding, no sentence.
    """
    sentences, words, document, first = list[Sentence](), list[tuple[int, str, str]](), 0, 0
    empty, blank = list[int](), list[int]()  # lines around the mark of a document, or at an end, are none
    for number, line in [*text_lines(path, encoding), (0, "")]:
        is_break = line.startswith(DOCUMENT)
        if line.strip() and not is_break:
            empty += blank if len(sentences) > first else []
            words.append((number, *_columns(path, number, line)))
            blank.clear()
            continue
        if words:
            sentences.append(_sentence(path, words, document))
            words.clear()
        else:
            blank.append(number)
        if is_break:
            document, first = document + 1, len(sentences)
            blank.clear()
    if not sentences:
        raise UserError(f"{path} has no sentence: a word and its tag a line, an empty line after each sentence")
    return Columns(sentences, _notes(path, sentences, empty))


def _notes(path: Path, sentences: list[Sentence], empty: list[int]) -> list[str]:
    notes = [f"{path} line {empty[0]}: an empty sentence ({len(empty)} in all), left out"] if empty else []
    for sentence in sentences:
        if len(sentence.words) > LONG:
            said = f"{path} line {sentence.line}: a sentence of {len(sentence.words)} words"
            notes.append(f"{said} (are the empty lines between sentences missing?): it is split, none of it is cut")
    return notes
