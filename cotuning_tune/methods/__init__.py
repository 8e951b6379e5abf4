"""Methods of transfer learning: what each adds to cross-entropy. One file each, found by its name."""

from cotuning_tune.data import Batch
from cotuning_tune.methods._base import Method, Preparation
from cotuning_tune.methods._find import about, broken, method, names, plugin

__all__ = ["Batch", "Method", "Preparation", "about", "broken", "method", "names", "plugin"]
