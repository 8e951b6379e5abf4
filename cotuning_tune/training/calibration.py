"""The source head calibrated on images of its own classes (paper, Algorithm 2): once, then from the cache.

Shapes: N images, S source classes.
"""

import copy
import dataclasses

import numpy as np
import torch

from cotuning_tune.cache import cached_arrays, content_key
from cotuning_tune.data import TaskConfig, decoded_batches, source_files
from cotuning_tune.models import Pretrained
from cotuning_tune.relationship import fit_temperature

VERSION = "temperature 1"


def calibrated(source: Pretrained, root: str, count: int, task: TaskConfig, device: torch.device) -> Pretrained:
    """The source with the temperature that fits best on at most ``count`` images of a folder of its classes.

    The images are resized and cut as the task's are. Raises UserError for a folder that does not fit the head.
    """
    files = source_files(root, source.source_head.out_features, count)

    @torch.no_grad()
    def compute() -> dict[str, np.ndarray]:
        backbone = copy.deepcopy(source.backbone).to(device).eval()
        head = copy.deepcopy(source.source_head).to(device).eval()
        batches = decoded_batches(files, task.resize, task.size)
        logits_NS = torch.cat([head(backbone(images.to(device))[0]).cpu() for images in batches])
        return {"temperature": np.array(fit_temperature(logits_NS, torch.tensor(files.labels)))}

    stats = [(name, (files.root / name).stat()) for name in files.names]
    listing = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
    where = (str(files.root), listing, list(files.labels))
    key = content_key(VERSION, source.fingerprint, where, task.resize, task.size)
    temperature = float(cached_arrays("temperature", key, compute)["temperature"])
    return dataclasses.replace(source, temperature=temperature)
