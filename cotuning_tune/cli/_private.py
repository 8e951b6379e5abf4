"""A password that was typed leaves the list of processes, which every user of the machine can read."""

import os
import sys

from cotuning_tune.base.secrets import Secret, masked

OPTION, VARIABLE = "--optuna-storage", "COTUNING_TUNE_OPTUNA_STORAGE"
INSTEAD = f"${VARIABLE}"


def storage_url(text: str) -> Secret:
    """The type of ``--optuna-storage``: a URL; ``$COTUNING_TUNE_OPTUNA_STORAGE`` stands for that of the environment."""
    return Secret(os.environ.get(VARIABLE, "") if text == INSTEAD else text)


def leave_process_list() -> None:
    """Where a URL with a password was typed: the same process starts anew, with the URL in its environment instead."""
    words, url = list(sys.orig_argv), ""
    for number, word in enumerate(words):
        option, equals, value = word.partition("=")
        if equals and _is_ours(option):
            start, text = f"{option}=", value
        elif number and _is_ours(words[number - 1]):
            start, text = "", word
        else:
            continue
        if masked(text) != text:
            words[number], url = start + INSTEAD, text
    if url and sys.executable and os.name == "posix":
        os.execve(sys.executable, words, {**os.environ, VARIABLE: url})  # nosec B606 # this very command


def _is_ours(option: str) -> bool:
    """Whether it is the option, or as much of it as tells it from others."""
    return len(option) > len("--o") and OPTION.startswith(option)
