"""Build the Fashion-MNIST part that the package carries, from Debian's dataset-fashion-mnist.

    apt-get download dataset-fashion-mnist && dpkg -x dataset-fashion-mnist_*.deb unpacked
    python scripts/build_embedded_fashion_mnist.py unpacked/usr/share/datasets/fashion-mnist

Takes the first 100 training and the first 100 test images of each class, in the published order.
Checks the sources before and the arrays after; ends with an error where a checksum differs.
Fashion-MNIST is Copyright 2017 Zalando SE, MIT (Expat) licence: see embedded/LICENSE.fashion_mnist.
"""

import gzip
import hashlib
import sys
from pathlib import Path

import numpy as np

PER_CLASS = 100
TARGET = Path(__file__).parents[1] / "cotuning_tune" / "data" / "embedded" / "fashion_mnist.npz"
SOURCES = {
    "t10k-images-idx3-ubyte.gz": "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
    "t10k-labels-idx1-ubyte.gz": "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
    "train-images-idx3-ubyte.gz": "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
    "train-labels-idx1-ubyte.gz": "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
}
ARRAYS = "48a0e538f7c420cf5d361fbfc7a350464c52cb2038ffcb84d755c20b2e07c93c"


def read_checked(path: Path) -> bytes:
    """The unpacked content of a source file whose SHA-256 is the known one."""
    packed = path.read_bytes()
    found = hashlib.sha256(packed).hexdigest()
    if found != SOURCES[path.name]:
        sys.exit(f"{path}: sha256 {found}, expected {SOURCES[path.name]}")
    return gzip.decompress(packed)


def read_part(folder: Path, prefix: str) -> tuple[np.ndarray, np.ndarray]:
    """Images [N, 28, 28] and labels [N] of one part, the first ``PER_CLASS`` of each class."""
    images = np.frombuffer(read_checked(folder / f"{prefix}-images-idx3-ubyte.gz"), np.uint8, offset=16)
    labels = np.frombuffer(read_checked(folder / f"{prefix}-labels-idx1-ubyte.gz"), np.uint8, offset=8)
    first = np.sort(np.concatenate([np.flatnonzero(labels == c)[:PER_CLASS] for c in range(10)]))
    return images.reshape(-1, 28, 28)[first], labels[first].astype(np.int64)


def digest_of(arrays: dict[str, np.ndarray]) -> str:
    """SHA-256 over names and contents of the arrays."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(name.encode() + arrays[name].tobytes())
    return digest.hexdigest()


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    arrays = {}
    for part, prefix in (("train", "train"), ("test", "t10k")):
        arrays[f"{part}_images"], arrays[f"{part}_labels"] = read_part(Path(sys.argv[1]), prefix)
    if digest_of(arrays) != ARRAYS:
        sys.exit(f"the arrays have sha256 {digest_of(arrays)}, expected {ARRAYS}")
    TARGET.parent.mkdir(exist_ok=True)
    np.savez_compressed(TARGET, **arrays)
    print(f"{TARGET.name}: {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
