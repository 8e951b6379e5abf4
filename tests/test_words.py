"""Words that must not come back: each has one replacement, and the glossary of CONTRIBUTING.md says what it means."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("cotuning_tune", "docs", "search_spaces", "launch")
ENDINGS = (".py", ".md", ".toml", ".html", ".js", ".css", ".sh", ".sbatch", ".yaml", ".json")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
TEXTS = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*")) if path.suffix in ENDINGS] + PAGES

WORDS = {  # what is looked for, in any case, also inside identifiers: what to write instead
    r"(?<![a-z])cells?(?![a-z])": "study, or setting (of a table or a CSV file it is allowed: ALLOWED)",
    r"stopper": "pruner",
    r"(?<![a-z])(?<!__)slots?(?![a-z]|__)": "concurrent trials, trial-hours",
    r"(?<![a-z])openings?(?![a-z])": "test evaluation",
    r"opened (once|twice|\S+ times)|splits? (was|were|is|are) opened": "test evaluations",
    r"smallest_crop": "min_scale",
    r"doctor": "search-space diagnostics",
    r"first method": "best-ranked method",
    r"--studies\b|TUNE_STUDIES|studies\.journal": "--optuna-storage, COTUNING_TUNE_OPTUNA_STORAGE, optuna.journal",
    r"\b(go|goes|going|went) on\b": "continue",
    r"\b(leave|leaves|left) away\b": "leave out",
    r"\b(end|stop|put)\w* (\w+ ){0,3}in order\b(?! to)|in_order": "cleanly",
    r"(?<!there )\bis no (?!more\b|longer\b)": "is not",
    r"\bthe way is to\b": "an imperative",
    r"\b(one|trials|crops|chart|file|study|ports) an? (study|trial|core|class|method|table|seed|job)\b": "per ...",
    r"(, |\bis |\bare |\bbe )told (by|before|how|\{)": "reported",
}
FORMER = ROOT / "cotuning_tune" / "base" / "former_names.py"  # where former names are answered
ALLOWED = {
    "cotuning_tune/report/assets/page.js": "cell",  # of a table
    "cotuning_tune/base/tables.py": "cell",
    "cotuning_tune/data/images/_tables.py": "cell",
}


def misused(text: str, allowed: str = "") -> list[str]:
    """Each line of a text with a word that must not come back, and what to write instead."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        for word, instead in WORDS.items():
            hit = re.search(word, line, re.IGNORECASE)
            if hit and not (allowed and hit[0].lower().startswith(allowed)):
                found.append(f"line {number}: '{hit[0]}': write {instead}")
    return found


@pytest.mark.parametrize(
    "path", [path for path in TEXTS if path != FORMER], ids=lambda path: str(path.relative_to(ROOT))
)
def test_no_word_comes_back(path: Path) -> None:
    """Code, guides and files of settings say what the glossary says."""
    name = path.relative_to(ROOT).as_posix()
    assert misused(path.read_text(encoding="utf-8"), ALLOWED.get(name, "")) == []


def test_a_word_is_found_with_its_replacement() -> None:
    """Also inside an identifier, and in any case."""
    assert misused("ok\nevery_stopper = 1") == ["line 2: 'stopper': write pruner"]
    assert misused("cancelled, excellent; there is no image; in order to see") == []
    assert misused("every cell of a table", "cell") == []
    assert [line.split("'")[1] for line in misused("The run Goes on.\nIt ended in order.")] == [
        "Goes on",
        "ended in order",
    ]
