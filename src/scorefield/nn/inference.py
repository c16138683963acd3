"""A network laid out for evaluation: what every call would do again is done once.

On a CPU, convolutions take their time from oneDNN, which computes with channels last; with weights (and hence features)
laid out so, nothing is rearranged between layers. In bfloat16 a CPU with AMX or AVX-512 BF16 and every recent GPU
multiply twice as fast. Convolutions and linear maps can stand it; normalization and the embedding of the noise level,
where neighbouring times differ by less than bfloat16 can tell, stay in float32.
"""

import torch
from torch import nn

from scorefield.nn.embedding import ConditionEmbedding

_NARROW = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


def lay_out(network: nn.Module, dtype: torch.dtype | None = None) -> None:
    """Lay out the weights of a network in place, those of convolutions and linear maps in ``dtype`` unless None.

    A network in 16 bits is called under ``torch.autocast``, which makes the inputs of its layers fit.
    """
    embeddings = [module for module in network.modules() if isinstance(module, ConditionEmbedding)]
    wide = {part for embedding in embeddings for part in embedding.modules()}
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if isinstance(module, nn.Conv3d):
            module.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        if dtype is not None and isinstance(module, _NARROW) and module not in wide:
            module.to(dtype)
