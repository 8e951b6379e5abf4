"""A BERT of two layers, trained in seconds on made-up sentences (extra nlp): for tests, where no real one is needed."""

import functools
import string
from typing import Any

import numpy as np
import torch

from cotuning_tune.base.cache import cached_arrays, content_key
from cotuning_tune.base.errors import UserError
from cotuning_tune.data.text.synthetic_ner import ENDINGS, SYLLABLES, TEMPLATES, sentences
from cotuning_tune.models._transfer_model import Pretrained
from cotuning_tune.models.text._encoder import Tokenizer, from_masked_model
from cotuning_tune.models.text._pretrain import Size, make_tokenizer, pretrain
from cotuning_tune.models.text.transformers_models import transformers

VERSION = "tiny_bert 3"
TEXTS = 400
SIZE = Size(hidden=32, layers=2, heads=2, max_length=64, steps=400, batch=32, lr=3e-3)


def names() -> list[str]:
    return ["tiny_bert"]


def _vocabulary() -> list[str]:
    """What the sentences are made of, and letters."""
    words = sorted({word for template in TEMPLATES for word in template.split() if word not in ENDINGS})
    parts = [*SYLLABLES, *(ending for endings in ENDINGS.values() for ending in endings), *string.ascii_lowercase]
    every = [*words, *string.ascii_letters, *map(str.capitalize, SYLLABLES), *(f"##{part}" for part in parts)]
    return list(dict.fromkeys(every))


@functools.cache
def _tokenizer() -> Any:
    return make_tokenizer((), SIZE, _vocabulary())


def words(name: str, weights: str = "") -> Tokenizer:  # noqa: ARG001 - as every family
    """Its tokenizer."""
    return Tokenizer(_tokenizer())


def build(name: str, weights: str) -> Pretrained:
    """Trained once, then from the cache; ``weights = "random"``: untrained."""
    if weights not in ("", "random"):
        raise UserError("tiny_bert has no weights to read: omit weights")
    hf = transformers()
    config = hf.BertConfig(
        vocab_size=len(_tokenizer()),
        hidden_size=SIZE.hidden,
        num_hidden_layers=SIZE.layers,
        num_attention_heads=SIZE.heads,
        intermediate_size=4 * SIZE.hidden,
        max_position_embeddings=SIZE.max_length,
    )
    model = hf.BertForMaskedLM(config)
    if weights != "random":
        key = content_key(VERSION, vars(SIZE), TEXTS, torch.__version__, hf.__version__)

        def compute() -> dict[str, np.ndarray]:
            trained = pretrain(sentences(TEXTS, -1)[0], SIZE, _tokenizer())
            return {name: weight.numpy() for name, weight in trained.state_dict().items()}

        found = cached_arrays("tiny_bert", key, compute)
        model.load_state_dict({name: torch.from_numpy(np.array(weight)) for name, weight in found.items()})
    return from_masked_model(name, model, _tokenizer(), is_random=weights == "random")
