"""Files of tagged words: what is read, and the one line that says what is wrong with one."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotuning_tune.base.errors import UserError
from cotuning_tune.data.text._columns import read_columns
from cotuning_tune.data.text._tags import classes_of, to_bio

FOUR = """-DOCSTART- -X- -X- O

EU NNP B-NP I-ORG
rejects VBZ B-VP O
German JJ B-NP I-MISC

Peter NNP B-NP I-PER
Blackburn NNP I-NP I-PER

-DOCSTART- -X- -X- O

Rome NNP B-NP I-LOC
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "train.txt"


def test_conlls_own_columns(file: Path) -> None:
    """First column the word, last one the tag; IOB1 is read as BIO, documents are counted, breaks are no sentences."""
    file.write_text(FOUR)
    found = read_columns(file)
    assert [(s.words, s.tags, s.line, s.document) for s in found.sentences] == [
        (("EU", "rejects", "German"), ("B-ORG", "O", "B-MISC"), 3, 1),
        (("Peter", "Blackburn"), ("B-PER", "I-PER"), 7, 1),
        (("Rome",), ("B-LOC",), 12, 2),
    ]
    assert not found.notes


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("B-A I-A O B-A B-A", "B-A I-A O B-A B-A"),
        ("I-A I-A O I-B B-B", "B-A I-A O B-B B-B"),
        ("B-A E-A S-B S-B O", "B-A I-A B-B B-B O"),
        ("B-A I-A L-A U-B O", "B-A I-A I-A B-B O"),
        ("I-A I-B O I-B I-B", "B-A B-B O B-B I-B"),
    ],
    ids=["BIO", "IOB1", "BIOES", "BILOU", "broken"],
)
def test_schemes(tags: str, expected: str) -> None:
    """Each is read as BIO without being named."""
    assert to_bio(tags.split()) == expected.split()


@given(st.lists(st.sampled_from(["O", *classes_of(["X", "Y"])[1:]])))
def test_bio_stays(tags: list[str]) -> None:
    """What is BIO already is left as it is."""
    once = to_bio(tags)
    assert to_bio(once) == once


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a O\nb\n", "line 2: there is one column ('b'), and a word and its tag are needed"),
        (b"a O\n\nb PERSON\n", "line 3: the tag 'PERSON' is neither O nor like B-PER"),
        (b"a O\ncaf\xe9 O\n", "line 2: the byte 0xe9 is not utf-8: save it as UTF-8, or give its encoding"),
        (b"a\tO\n\tO\n", "line 2: its word is empty"),
        (b"\n\n", "has no sentence"),
    ],
    ids=["a missing column", "an unknown tag", "Latin-1", "an empty word", "an empty file"],
)
def test_one_line_says_what_is_wrong(file: Path, content: bytes, said: str) -> None:
    """With the file and the number of the line."""
    file.write_bytes(content)
    with pytest.raises(UserError) as problem:
        read_columns(file)
    assert said in str(problem.value)
    assert str(problem.value).startswith(str(file))
    assert "\n" not in str(problem.value)


def test_latin_1_is_read_where_it_is_named(file: Path) -> None:
    """The encoding is the user's to say; one that Python lacks is named."""
    file.write_bytes("café I-LOC\n".encode("latin-1"))
    assert read_columns(file, "latin-1").sentences[0].words == ("café",)
    with pytest.raises(UserError, match="Python knows none of that name"):
        read_columns(file, "latin-99")


def test_an_empty_sentence_and_a_very_long_one_are_told(file: Path) -> None:
    """They are no mistakes for sure: a line with file and number, and the rest is read."""
    file.write_text("a O\n\n\nb O\n\n" + "c O\n" * 5000 + "\n\n\n")
    found = read_columns(file)
    assert [len(s.words) for s in found.sentences] == [1, 1, 5000]
    assert found.notes[0] == f"{file} line 3: an empty sentence (1 in all), left out"
    assert found.notes[1].startswith(f"{file} line 6: a sentence of 5000 words")


def test_windows_lines_and_a_byte_order_mark(file: Path) -> None:
    """Both are no part of words and tags."""
    file.write_bytes(b"\xef\xbb\xbfa B-X\r\nb I-X\r\n\r\nc O\r\n")
    assert [(s.words, s.tags) for s in read_columns(file).sentences] == [(("a", "b"), ("B-X", "I-X")), (("c",), ("O",))]
