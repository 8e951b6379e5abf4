"""YAML with the line of everything in it, so that a mistake in a rendered or edited file is named by its line."""

import json
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from cotuning_tune.base.errors import UserError

Where = tuple[str | int, ...]
Problem = tuple[Where, str]


@dataclass(frozen=True)
class Document:
    """A YAML document: its value, and the line of every key and item by the path to it."""

    value: Any
    lines: dict[Where, int]
    file: str

    def line(self, where: Where) -> int:
        """The line of the longest part of the path that there is."""
        while where not in self.lines:
            where = where[:-1]
        return self.lines[where]

    def refuse(self, problems: Iterable[Problem]) -> None:
        """Raise the first problem as a UserError with file and line."""
        for where, message in problems:
            raise UserError(f"{self.file} line {self.line(where)}: {message}")


def quoted(value: Any) -> str:
    """A value as one line that YAML reads back exactly, whatever is in it."""
    return json.dumps(value, ensure_ascii=True)


def block(text: str, depth: int) -> str:
    """A text as YAML that people can read, for a key that stands ``depth`` columns in."""
    import yaml

    made = "|2+\n" + textwrap.indent(text.removesuffix("\n"), " " * (depth + 2))
    try:
        same = yaml.safe_load(f"{' ' * depth}key: {made}\n")["key"] == text
    except yaml.YAMLError:
        same = False
    return made if same else quoted(text)


def documents(text: str, file: str) -> list[Document]:
    """The documents of a YAML file. Raises UserError with the line for what is not YAML, and for a key given twice."""
    import yaml

    try:
        nodes = [node for node in yaml.compose_all(text, yaml.SafeLoader) if node is not None]
        values = [value for value in yaml.safe_load_all(text) if value is not None]
    except yaml.MarkedYAMLError as problem:
        line = problem.problem_mark.line + 1 if problem.problem_mark else 1
        raise UserError(f"{file} line {line}: {problem.problem}") from None
    except (yaml.YAMLError, ValueError) as problem:
        raise UserError(f"{file}: {str(problem).splitlines()[0]}") from None
    return [Document(value, _lines(node, (), file), file) for node, value in zip(nodes, values, strict=True)]


def _lines(node: Any, where: Where, file: str) -> dict[Where, int]:
    """The line of every key and item below a node."""
    found: dict[Where, int] = {where: node.start_mark.line + 1}
    if node.id == "sequence":
        for number, item in enumerate(node.value):
            found.update(_lines(item, (*where, number), file))
    elif node.id == "mapping":
        for key, item in node.value:
            path = (*where, str(key.value))
            if path in found:
                raise UserError(f"{file} line {key.start_mark.line + 1}: '{key.value}' is given twice")
            found.update(_lines(item, path, file))
            found[path] = key.start_mark.line + 1
    return found
