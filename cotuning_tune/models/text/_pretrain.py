"""A small BERT trained from nothing as a masked language model, with a vocabulary of its own: for tests, and to try
things where no model hub is reached. Devlin et al., NAACL 2019: of 15 % of the sub-words 80 % are masked, 10 %
replaced.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cotuning_tune.models.text.transformers_models import transformers

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
MASKED, REPLACED, KEPT = 0.15, 0.8, 0.9


@dataclass(frozen=True, kw_only=True)
class Size:
    """Of the network, and of its training. ``lower``: the vocabulary knows no capitals."""

    vocabulary: int = 1000
    hidden: int = 64
    layers: int = 2
    heads: int = 2
    max_length: int = 128
    steps: int = 300
    batch: int = 32
    lr: float = 1e-3
    seed: int = 0
    lower: bool = False


def make_tokenizer(sentences: Sequence[Sequence[str]], size: Size, vocabulary: Sequence[str] = ()) -> Any:
    """A WordPiece tokenizer with this vocabulary behind the special tokens, else one learned from the sentences.

    What is learned differs from process to process where pairs are equally frequent: keep it in a file.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    numbers = {word: number for number, word in enumerate((*SPECIAL, *vocabulary))}
    made = Tokenizer(models.WordPiece(numbers, unk_token=SPECIAL[1], max_input_chars_per_word=100))
    made.normalizer = normalizers.BertNormalizer(lowercase=size.lower, strip_accents=size.lower)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    if not vocabulary:
        trainer = trainers.WordPieceTrainer(
            vocab_size=size.vocabulary, special_tokens=list(SPECIAL), show_progress=False, min_frequency=1
        )
        made.train_from_iterator((" ".join(sentence) for sentence in sentences), trainer)
    sep, cls = SPECIAL.index("[SEP]"), SPECIAL.index("[CLS]")  # they come first, in this order
    made.post_processor = processors.BertProcessing(("[SEP]", sep), ("[CLS]", cls))
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    known = dict(zip(names, SPECIAL, strict=True))
    return transformers().PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=size.max_length, **known)


def _masked(ids_BL: Tensor, mask_BL: Tensor, vocabulary: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sub-words to read and those to tell (-100: not asked), [B, L] each."""
    draws_BL, which_BL = (torch.rand(ids_BL.shape, generator=generator) for _ in range(2))
    asked_BL = (draws_BL < MASKED) & (ids_BL >= len(SPECIAL)) & (mask_BL > 0)
    others_BL = torch.randint(len(SPECIAL), vocabulary, ids_BL.shape, generator=generator)
    read_BL = torch.where(asked_BL & (which_BL < REPLACED), SPECIAL.index("[MASK]"), ids_BL)
    read_BL = torch.where(asked_BL & (which_BL >= KEPT), others_BL, read_BL)
    return read_BL, torch.where(asked_BL, ids_BL, -100)


def pretrain(
    sentences: Sequence[Sequence[str]],
    size: Size,
    tokenizer: Any,
    say: Callable[[int, float], None] = lambda step, loss: None,
) -> Any:
    """A ``BertForMaskedLM`` in evaluation mode; ``say`` is told step and loss now and then."""
    hf = transformers()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(size.seed)
        config = hf.BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=size.hidden,
            num_hidden_layers=size.layers,
            num_attention_heads=size.heads,
            intermediate_size=4 * size.hidden,
            max_position_embeddings=size.max_length,
            pad_token_id=0,
        )
        model = hf.BertForMaskedLM(config).train()
        texts = [" ".join(sentence) for sentence in sentences]
        encoded = sorted(tokenizer(texts, truncation=True, max_length=size.max_length).input_ids, key=len)
        generator = torch.Generator().manual_seed(size.seed)
        optimiser = torch.optim.AdamW(model.parameters(), lr=size.lr, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, size.lr, total_steps=size.steps + 1, pct_start=0.1)
        for step in range(size.steps):
            first = int(torch.randint(max(1, len(encoded) - size.batch), (), generator=generator))
            rows = [torch.tensor(ids) for ids in encoded[first : first + size.batch]]  # of about one length
            ids_BL = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
            mask_BL = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
            read_BL, asked_BL = _masked(ids_BL, mask_BL, len(tokenizer), generator)
            optimiser.zero_grad()
            loss = model(input_ids=read_BL, attention_mask=mask_BL, labels=asked_BL).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            if step % 100 == 99 or step + 1 == size.steps:
                say(step + 1, loss.item())
    return model.eval()
