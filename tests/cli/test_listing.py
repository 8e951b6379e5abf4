"""What there is: found once, then remembered as long as it cannot have changed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cotuning_tune.cli import _listing

SCRIPT = """
import sys
from cotuning_tune.cli import main
code = main(["list", *sys.argv[1:]])
print("torch" in sys.modules, file=sys.stderr)
sys.exit(code)
"""


def listed(cache: Path, *words: str) -> tuple[list[str], bool]:
    """What the command prints, and whether it has imported torch for it."""
    env = os.environ | {"COTUNING_TUNE_CACHE": str(cache)}
    script = [sys.executable, "-c", SCRIPT, *words]
    done = subprocess.run(script, env=env, capture_output=True, text=True, check=True)
    return done.stdout.splitlines(), done.stderr.endswith("True\n")


@pytest.mark.parametrize("words", [("methods",), ("models", "resnet1*")], ids=" ".join)
def test_the_second_time_imports_nothing(tmp_path: Path, words: tuple[str, ...]) -> None:
    """And says the same; where the cache is none of ours, or holds rubbish, all is found anew."""
    first, again = listed(tmp_path, *words), listed(tmp_path, *words)
    assert first[0] == again[0] != []
    assert (first[1], again[1]) == (True, False)
    (kept,) = (tmp_path / "lists").iterdir()
    kept.write_text("{")
    assert listed(tmp_path, *words) == first


def test_the_key_changes_with_what_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new file, a changed one, another pattern, another version: another key."""
    home = tmp_path / "methods"
    home.mkdir()
    file = home / "one.py"
    file.write_text("1")
    monkeypatch.setattr(_listing, "_files", lambda _what: sorted(home.iterdir()))
    keys = [_listing._key("methods", ""), _listing._key("methods", ""), _listing._key("methods", "b*")]
    file.write_text("12")
    keys.append(_listing._key("methods", ""))
    (home / "two.py").touch()
    keys.append(_listing._key("methods", ""))
    monkeypatch.setattr(_listing, "installed", lambda libraries: dict.fromkeys(libraries, "9.9"))
    keys.append(_listing._key("methods", ""))
    assert keys[0] == keys[1]
    assert len(set(keys)) == 5
