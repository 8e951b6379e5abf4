"""A profile: what a site's machines need, in a TOML file; each backend has its own keys."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.toml_text import line_of, read_text, tables_of
from cotuning_tune.hyper import build, convert, default_of, fields_of


def read_profile(profile_type: type, path: str | Path | None, given: Mapping[str, Any], backend: str) -> Any:
    """The profile in a file, with the ``given`` values over it. Raises UserError with file and line."""
    text = read_text(Path(path)) if path else ""
    try:
        tables = tables_of(text)
    except UserError as problem:
        raise UserError(f"{path}: {problem}") from None
    try:
        return make_profile(profile_type, {**tables, **given}, backend)
    except UserError as problem:
        line = line_of(text, [problem.key.rpartition(".")[2]]) if problem.key and text else None
        raise UserError(f"{path} line {line}: {problem}" if line else str(problem)) from None


def make_profile(profile_type: type, values: Mapping[str, Any], backend: str) -> Any:
    """The profile of these values; types are converted. Raises UserError for unknown keys and wrong types."""
    known = fields_of(profile_type)
    found = {k: convert(v, known[k][1], f"{backend}.{k}") if k in known else v for k, v in values.items()}
    defaults = {key: default_of(item) for key, (item, _) in known.items()}
    return build(profile_type, {**defaults, **found}, backend)


def profile_text(profile_type: type) -> str:
    """Every key with its default and meaning, as a profile file."""
    from cotuning_tune.base.toml_text import format_value

    lines = []
    for key, (item, _) in fields_of(profile_type).items():
        lines.append(f"{key} = {format_value(default_of(item))}  # {item.metadata.get('doc', '')}")
    return "\n".join(lines) + "\n"


def check_absolute(profile: Any, backend: str, *keys: str) -> None:
    """Refuse relative paths in these keys: the verbs work from every folder. Raises UserError."""
    for key in keys:
        if (value := getattr(profile, key)) and not Path(value).expanduser().is_absolute():
            raise UserError(f"{backend}.{key} = {value!r}: an absolute path is needed, or one that starts with ~/", key)
