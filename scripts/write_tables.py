"""Write the parts of README and guides that follow from the code, between their marks.

python scripts/write_tables.py            write them
python scripts/write_tables.py --check    exit code 1 where a page says something else
"""

import re
import sys
from pathlib import Path

from cotuning_tune import methods
from cotuning_tune.base import discovery

ROOT = Path(__file__).parents[1]


def table_of_methods() -> str:
    """Every method with its line and its source."""
    rows = [
        f"| `{name}` | {discovery.first_line(methods, name).rstrip('.')} | {methods.method(name).source} |"
        for name in discovery.module_names(methods)
    ]
    return "\n".join(["| method | what it is | source |", "|---|---|---|", *rows])


def list_of_methods() -> str:
    """Every method's name, in a line."""
    return ", ".join(f"`{name}`" for name in discovery.module_names(methods))


PARTS = {"docs/methods.md": {"methods": table_of_methods}, "README.md": {"methods": list_of_methods}}


def written(page: str) -> str:
    """The text of a page with its parts as the code has them."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for name, make in PARTS[page].items():
        marks = re.compile(rf"(<!-- {name} -->\n).*?((?<=\n)<!-- end of {name} -->)", re.DOTALL)
        made = make()
        text, count = marks.subn(lambda found, made=made: f"{found[1]}{made}\n{found[2]}", text)
        if count != 1:
            raise SystemExit(f"{page} has the marks of '{name}' {count} times")
    return text


def main() -> int:
    old = [page for page in PARTS if written(page) != (ROOT / page).read_text(encoding="utf-8")]
    if "--check" in sys.argv[1:]:
        for page in old:
            print(f"{page} is not what the code says: python scripts/write_tables.py")
        return int(bool(old))
    for page in old:
        (ROOT / page).write_text(written(page), encoding="utf-8")
        print(f"{page} written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
