"""Train a small BERT from nothing as a masked language model on your own text, for where no model hub is reached.

python scripts/pretrain_mlm.py OUT FILE ... [--steps N --hidden D --layers L --vocabulary V]

Files of tagged words (columns) give their words, others are read as plain text, a sentence a line. The folder OUT holds
what transformers' save_pretrained writes; use it as backbone = "hf/OUT".
"""

import argparse
import time
from pathlib import Path

from cotuning_tune.base.errors import UserError
from cotuning_tune.data.text._columns import read_columns, text_lines
from cotuning_tune.models.text._pretrain import Size, make_tokenizer, pretrain


def sentences_of(path: Path) -> list[list[str]]:
    """The words of each sentence of a file."""
    try:
        return [list(sentence.words) for sentence in read_columns(path).sentences]
    except UserError:
        return [words for _, line in text_lines(path, "utf-8") if (words := line.split())]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("files", type=Path, nargs="+")
    for name, default in (("steps", 3000), ("vocabulary", 4000), ("hidden", 128), ("layers", 3), ("heads", 4)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    sizes = {name: getattr(options, name) for name in ("steps", "vocabulary", "hidden", "layers", "heads")}
    size = Size(**sizes, batch=32, lr=1e-3, max_length=128)
    sentences = [sentence for path in options.files for sentence in sentences_of(path)]
    print(f"{len(sentences)} sentences, {sum(map(len, sentences))} words")
    tokenizer, start = make_tokenizer(sentences, size), time.monotonic()

    def say(step: int, loss: float) -> None:
        print(f"step {step}/{size.steps}  loss {loss:.3f}  {time.monotonic() - start:.0f} s", flush=True)

    model = pretrain(sentences, size, tokenizer, say)
    model.save_pretrained(options.out)
    tokenizer.save_pretrained(options.out)
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
