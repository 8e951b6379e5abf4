"""The source head calibrated on images of its own classes (paper, Algorithm 2): once, then from the cache.

Shapes: N images, S source classes.
"""

import copy
import dataclasses
import math

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from cotuning_tune.base.cache import cached_arrays, content_key
from cotuning_tune.base.errors import UserError
from cotuning_tune.data import TaskConfig
from cotuning_tune.data.images import decoded_batches, source_files
from cotuning_tune.models import Pretrained
from cotuning_tune.relationship._calibration import fit_temperature

VERSION = "temperature 1"
INFORMED = 0.99  # of the loss of chance: a head that calibrates no further knows nothing of the images


def calibrated(source: Pretrained, root: str, count: int, task: TaskConfig, device: torch.device) -> Pretrained:
    """The source with the temperature that fits best on at most ``count`` images of a folder of its classes.

    The images are resized and cut as the task's are. Raises UserError for a folder that does not fit the head,
    and where the head does no better than chance.
    """
    files = source_files(root, source.source_head.out_features, count)

    @torch.no_grad()
    def compute() -> dict[str, np.ndarray]:
        backbone = copy.deepcopy(source.backbone).to(device).eval()
        head = copy.deepcopy(source.source_head).to(device).eval()
        batches = decoded_batches(files, task.resize, task.size)
        logits_NS = torch.cat([head(backbone(images.to(device))[0]).cpu() for images in batches]).double()
        labels_N = torch.tensor(files.labels)
        temperature = fit_temperature(logits_NS, labels_N)
        loss = cross_entropy(logits_NS / temperature, labels_N).item()
        if loss > INFORMED * math.log(logits_NS.shape[1]):
            raise UserError(
                f"source_val = {root}: the source head does no better than chance there; its class folders, sorted,"
                " must be the classes of the head in their order"
            )
        return {"temperature": np.array(temperature)}

    stats = [(name, (files.root / name).stat()) for name in files.names]
    listing = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
    where = (str(files.root), listing, list(files.labels))
    key = content_key(VERSION, source.fingerprint, where, task.resize, task.size)
    temperature = float(cached_arrays("temperature", key, compute)["temperature"])
    return dataclasses.replace(source, temperature=temperature)
