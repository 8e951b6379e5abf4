"""Every token encoder of transformers with a masked-language-model head, named ``hf/FOLDER`` or ``hf/NAME`` (extra
nlp).

A folder is what ``save_pretrained`` writes, with its tokenizer; a name is looked up on the hub, or in its local cache.
"""

import functools
from pathlib import Path
from types import ModuleType
from typing import Any

from cotuning_tune.base.errors import UserError, first_line
from cotuning_tune.models._transfer_model import Pretrained
from cotuning_tune.models.text._encoder import Tokenizer, from_masked_model

PREFIX = "hf/"


def transformers() -> ModuleType:
    """The package. Raises UserError where it is missing."""
    try:
        import transformers as found
    except ImportError:
        raise UserError("texts need the extra 'nlp': pip install 'cotuning_tune[nlp]'") from None
    found.utils.logging.set_verbosity_error()
    found.utils.logging.disable_progress_bar()
    return found


def names() -> list[str]:
    """None by name: there are too many, and folders are endless."""
    return []


def knows(name: str) -> bool:
    """Whether a name could be one of these."""
    return name.startswith(PREFIX) and len(name) > len(PREFIX)


def _asked(name: str) -> str:
    return name.removeprefix(PREFIX)


def _read(name: str, what: str, load: Any) -> Any:
    asked = _asked(name)
    try:
        return load(asked)
    except Exception as problem:  # many kinds, of the package and of what it asks
        where = "the folder" if Path(asked).is_dir() else "no folder, and the hub"
        cure = "" if Path(asked).is_dir() else "; give hf/ and the path of a folder that save_pretrained wrote"
        raise UserError(f"{name}: {where} gives no {what} ({first_line(problem)}){cure}") from None


@functools.lru_cache(maxsize=4)
def words(name: str, weights: str = "") -> Tokenizer:  # noqa: ARG001 - as every family
    """The tokenizer of a model. Raises UserError for one that does not tell which sub-words a word has."""
    auto = transformers().AutoTokenizer
    found = _read(name, "tokenizer", lambda asked: auto.from_pretrained(asked, add_prefix_space=True))
    if not found.is_fast or found.pad_token_id is None or found.unk_token_id is None:
        raise UserError(f"{name}: its tokenizer is none of the fast ones with a padding and an unknown token")
    return Tokenizer(found)


def build(name: str, weights: str) -> Pretrained:
    """The encoder with its head; ``weights = "random"``: of the same build, untrained."""
    if weights not in ("", "random"):
        raise UserError(f"{name} has its weights with it: leave weights out, or give 'random'")
    hf = transformers()
    if weights == "random":
        config = _read(name, "configuration", hf.AutoConfig.from_pretrained)
        model = hf.AutoModelForMaskedLM.from_config(config)
    else:
        model = _read(name, "masked language model", hf.AutoModelForMaskedLM.from_pretrained)
    return from_masked_model(name, model, words(name).tokenizer, is_random=weights == "random")
