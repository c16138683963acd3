r"""NCSN, the noise-conditional score network of Song & Ermon (2019).

A dilated RefineNet in which a conditional InstanceNorm++ before every convolution but the first tells the noise level:
there are L levels :math:`\sigma_1 > \dots > \sigma_L` with a row of coefficients each, and nothing in between. The
published network has 128 features and 10 levels from 1 to 0.01. Its output is the score itself, which grows as
:math:`1/\sigma`.
"""

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from scorefield.nn.embedding import check_batch
from scorefield.nn.layers import Activation
from scorefield.nn.refinenet import RefineNet


class NCSN(nn.Module):
    """Images and the index of a noise level to images. The defaults are the paper's, for CIFAR-10.

    Args:
        in_channels: channels of the images, in and out.
        levels: number of noise levels; c is 0 (the largest) to ``levels - 1`` (the smallest).
        channels: features of the first stage, half of those of the others.
        nonlinearity: of all blocks.
        centered: False for images in [0, 1], which the network then maps to [-1, 1] first.

    Raises:
        ValueError: for fewer than 1 level or 2 channels.

    >>> network = NCSN(1, levels=10, channels=8)
    >>> network(torch.randn(2, 1, 28, 28), torch.tensor([0.0, 9.0])).shape
    torch.Size([2, 1, 28, 28])
    """

    def __init__(
        self,
        in_channels: int = 3,
        *,
        levels: int = 10,
        channels: int = 128,
        nonlinearity: Activation = "elu",
        centered: bool = False,
    ) -> None:
        super().__init__()
        if levels < 1:
            raise ValueError(f"levels={levels}; an NCSN needs at least 1 noise level")
        self.levels = levels
        self.refinenet = RefineNet(
            in_channels,
            channels,
            multipliers=(1, 2, 2, 2),
            dilations=(1, 1, 2, 4),
            levels=levels,
            nonlinearity=nonlinearity,
            centered=centered,
        )

    def forward(
        self,
        x: Float[Tensor, "batch channels height width"],
        c: Float[Tensor, " batch"],
        label: Integer[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch channels height width"]:
        """The network's output, like x.

        Args:
            x: images in model units, of even height and width.
            c: the index of each sample's noise level, 0 for the largest; whole numbers.
            label: None; an NCSN has no class labels.

        Raises:
            ValueError: where the images have other channels or odd sizes, where c is not one index per sample, and
                where labels are given.
        """
        check_batch(x, c, label)
        if label is not None:
            raise ValueError("labels were given to an NCSN, which has no classes; leave them out or take a UNet")
        level = c.round().long()
        if (
            not torch.compiler.is_compiling()
            and c.device.type == "cpu"
            and bool(((level != c) | (level < 0) | (level >= self.levels)).any())
        ):
            raise ValueError(
                f"noise levels must be whole numbers in 0…{self.levels - 1} (0: the largest), got {c.tolist()}"
            )
        return self.refinenet(x, level)  # type: ignore[no-any-return]
