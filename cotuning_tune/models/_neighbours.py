"""A head without weights: the training images with the most similar features vote on the class.

Wu, Xiong, Yu, Lin, *Unsupervised Feature Learning via Non-Parametric Instance Discrimination*, CVPR 2018, section 3.4.
Shapes: B images, N training images, K neighbours, D features, T target classes.

>>> head = NeighbourHead(images=3, features=2, classes=2, k=2, temperature=0.5)
>>> head.fill(torch.tensor([[2.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]), torch.tensor([0, 1, 1]))
>>> head(torch.tensor([[5.0, 0.0]])).exp()  # two votes as e^2 to e^0, and one for all alike
tensor([[0.7539, 0.2461]])
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize


class NeighbourHead(nn.Module):
    """Takes the place of the target head. The k nearest by cosine similarity s vote with weights exp(s / temperature).

    Log-probabilities: beside the k votes one of their mean weight is shared by all classes alike, so that none has
    the probability 0; the class of the most votes stays the likeliest. All that it knows is in its buffers.
    """

    features_ND: Tensor
    labels_N: Tensor
    uniform_T: Tensor

    def __init__(self, images: int, features: int, classes: int, k: int, temperature: float) -> None:
        super().__init__()
        self.k, self.temperature = min(k, images), temperature
        self.register_buffer("features_ND", torch.zeros(images, features))
        self.register_buffer("labels_N", torch.zeros(images, dtype=torch.int64))
        self.register_buffer("uniform_T", torch.full((classes,), 1 / classes))
        self.register_buffer(
            "rule", torch.tensor([self.k, temperature], dtype=torch.float64)
        )  # for who has a file alone

    def fill(self, features_ND: Tensor, labels_N: Tensor) -> None:
        """The training images: features of any length, labels."""
        self.features_ND.copy_(normalize(features_ND, dim=1))
        self.labels_N.copy_(labels_N)

    def forward(self, features_BD: Tensor) -> Tensor:
        """Log-probabilities [B, T]."""
        nearest = (normalize(features_BD, dim=1) @ self.features_ND.T).topk(self.k, dim=1)
        weight_BK = self.k * (nearest.values / self.temperature).softmax(1).to(self.uniform_T.dtype)
        shared_BT = self.uniform_T.expand(features_BD.shape[0], -1)
        votes_BT = shared_BT.scatter_add(1, self.labels_N[nearest.indices], weight_BK)
        return (votes_BT / (self.k + 1)).log()
