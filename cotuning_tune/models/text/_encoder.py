"""A token encoder of transformers with the masked-language-model head that it was trained with.

Shapes: R rows of L sub-words, M of them with a class, D features, V sub-words of the vocabulary.
"""

import copy
from collections.abc import Sequence
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor, nn

from cotuning_tune.base.cache import content_key
from cotuning_tune.base.errors import UserError
from cotuning_tune.models._transfer_model import Backbone, Pretrained


class TokenBackbone(Backbone):
    """An encoder: of stored rows (``data.text``) it gives the features of the sub-words that carry a class, [M, D]."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__([encoder], taps={}, mean=[0.0], std=[1.0])

    def features(self, rows_R3L: Tensor) -> Tensor:
        ids_RL, mask_RL, active_RL = rows_R3L.unbind(1)
        hidden_RLD: Tensor = self.chain[0](input_ids=ids_RL, attention_mask=mask_RL).last_hidden_state
        return hidden_RLD[active_RL > 0]


class MaskedHead(nn.Module):
    """The masked-language-model head as source head: V classes. Its own copy: weights that a checkpoint shares with
    the embeddings are trained apart from them here."""

    def __init__(self, layers: nn.Module, width: int, vocabulary: int) -> None:
        super().__init__()
        self.layers, self.in_features, self.out_features = layers, width, vocabulary

    @property
    def weight(self) -> Tensor:
        """Any of its weights, for where it is and what it is of."""
        return next(self.layers.parameters())

    def forward(self, features_MD: Tensor) -> Tensor:
        found: Tensor = self.layers(features_MD)
        return found


class _Distil(nn.Module):
    """DistilBERT's head, whose layers stand beside each other in the model."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.transform, self.norm, self.projector = model.vocab_transform, model.vocab_layer_norm, model.vocab_projector
        self.activation = model.activation

    def forward(self, features_MD: Tensor) -> Tensor:
        found: Tensor = self.projector(self.norm(self.activation(self.transform(features_MD))))
        return found


def masked_head(model: Any, name: str) -> MaskedHead:
    """The head of a masked language model. Raises UserError for one of another build."""
    for attribute in ("cls", "lm_head"):
        if isinstance(layers := getattr(model, attribute, None), nn.Module):
            break
    else:
        if not hasattr(model, "vocab_projector"):
            told = "its masked-language-model head is none that this program knows (BERT's, RoBERTa's, DistilBERT's)"
            raise UserError(f"{name}: {told}")
        layers = _Distil(model)
    layers = copy.deepcopy(layers)
    for module in layers.modules():  # a bias that BERT and RoBERTa hold twice
        decoder = getattr(module, "decoder", None)
        if isinstance(decoder, nn.Linear) and getattr(module, "bias", None) is decoder.bias:
            module.register_parameter("bias", None)
    return MaskedHead(layers, model.config.hidden_size, model.config.vocab_size)


class Tokenizer:
    """A fast tokenizer of transformers as ``data.Words``."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    @cached_property
    def key(self) -> str:
        return content_key("words 1", self.tokenizer.backend_tokenizer.to_str(), self.pad, *self.ends)

    @property
    def pad(self) -> int:
        return int(self.tokenizer.pad_token_id)

    @cached_property
    def ends(self) -> tuple[list[int], list[int]]:
        alone = list(self.tokenizer("", add_special_tokens=True).input_ids)
        return alone[: len(alone) // 2], alone[len(alone) // 2 :]

    def split(self, sentences: Sequence[Sequence[str]]) -> list[list[list[int]]]:
        if not sentences:
            return []
        encoded = self.tokenizer([list(s) for s in sentences], is_split_into_words=True, add_special_tokens=False)
        found = []
        for number, sentence in enumerate(sentences):
            words: list[list[int]] = [[] for _ in sentence]
            for sub_word, word in zip(encoded.input_ids[number], encoded.word_ids(number), strict=True):
                words[word].append(sub_word)
            found.append([word or [int(self.tokenizer.unk_token_id)] for word in words])  # of signs it does not keep
        return found


def from_masked_model(name: str, model: Any, tokenizer: Any, *, is_random: bool) -> Pretrained:
    """Encoder and head of a masked language model; copies, in the state that they are in."""
    head = masked_head(model, name)
    encoder = copy.deepcopy(model.base_model).eval()
    vocabulary = tuple(map(str, tokenizer.convert_ids_to_tokens(range(min(len(tokenizer), head.out_features)))))
    vocabulary += tuple(f"sub-word {number}" for number in range(len(vocabulary), head.out_features))
    with torch.no_grad():
        return Pretrained(
            name,
            TokenBackbone(encoder),
            cast(nn.Linear, head),  # it has what is asked of one
            temperature=1.0,
            head_is_trained=not is_random,
            is_random=is_random,
            class_names=vocabulary,
        )
