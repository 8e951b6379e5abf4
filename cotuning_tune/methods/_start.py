"""A method that remembers where weights were when training began."""

from collections.abc import Iterable

from torch import Tensor, nn


class Start(nn.Module):
    """Copies of tensors, its buffers in their order; not written to disk, for they follow from the source network."""

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        super().__init__()
        for number, tensor in enumerate(tensors):
            self.register_buffer(str(number), tensor.detach().clone(), persistent=False)
