"""A backbone with residual branches, small enough to train in a test."""

import pytest
import torch
from torch import Tensor, nn

from cotuning_tune.models import Backbone, Pretrained
from cotuning_tune.training import job


class Unit(nn.Module):
    """x plus a branch that a family's library could drop."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.drop_path = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.drop_path(self.norm(self.conv(x)))


@pytest.fixture
def residual(monkeypatch: pytest.MonkeyPatch) -> Pretrained:
    """Two residual units with a dropout of their own behind them; every training of the test takes it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=4), nn.BatchNorm2d(8), nn.ReLU())
        chain = [stem, Unit(), Unit(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.25)]
        backbone = Backbone(chain, {}, [127.5] * 3, [64.0] * 3, drop_paths={"1.drop_path": 0.1, "2.drop_path": 0.2})
        source = Pretrained("residual", backbone, nn.Linear(8, 12), temperature=1.0, is_random=True)
    monkeypatch.setattr(job, "source_of", lambda spec: source)
    return source
