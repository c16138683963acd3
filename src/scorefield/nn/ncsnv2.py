r"""NCSNv2, the score network of Song & Ermon (2020), which is not told the noise level.

Where there are hundreds of noise levels, a table of coefficients for each is a burden, and it is not needed: the norm
of the score is about :math:`\sqrt{D}/\sigma` at all levels, so that one network :math:`F(x)` with :math:`s(x, \sigma)
= F(x)/\sigma` (technique 3) can tell the level from the image. The output here is F: the division belongs to the
parameterization. The dilated RefineNet of NCSN remains, without normalization in its decoder and with maxima in the
place of means in its pooling. Larger images get one or two more stages that halve the resolution:

======== ================= =================== =======================================
stages   images            lowest resolution   features, as multiples of ``channels``
======== ================= =================== =======================================
4        below 96 pixels   1/2                 1, 2, 2, 2
5        96 to 128         1/4                 1, 2, 2, 4, 4
6        above 128         1/8                 1, 2, 2, 2, 4, 4
======== ================= =================== =======================================
"""

from typing import Literal

from jaxtyping import Float, Integer
from torch import Tensor, nn

from scorefield.nn.embedding import check_batch
from scorefield.nn.layers import Activation
from scorefield.nn.refinenet import RefineNet

Stages = Literal[4, 5, 6]
MULTIPLIERS: dict[int, tuple[int, ...]] = {4: (1, 2, 2, 2), 5: (1, 2, 2, 4, 4), 6: (1, 2, 2, 2, 4, 4)}


class NCSNv2(nn.Module):
    """Images to images, at all noise levels alike. The defaults are the paper's, for CIFAR-10 and CelebA at 64 pixels.

    Args:
        in_channels: channels of the images, in and out.
        channels: features of the first stage.
        stages: of the encoder; published are 4 for images below 96 pixels, 5 up to 128 and 6 above.
        nonlinearity: of all blocks.
        centered: False for images in [0, 1], which the network then maps to [-1, 1] first.

    Raises:
        ValueError: for another number of stages and for fewer than 2 channels.

    >>> import torch
    >>> network = NCSNv2(1, channels=4, stages=5)
    >>> network(torch.randn(2, 1, 16, 16), torch.tensor([0.0, 231.0])).shape
    torch.Size([2, 1, 16, 16])
    """

    def __init__(
        self,
        in_channels: int = 3,
        *,
        channels: int = 128,
        stages: Stages = 4,
        nonlinearity: Activation = "elu",
        centered: bool = False,
    ) -> None:
        super().__init__()
        if stages not in MULTIPLIERS:
            raise ValueError(f"stages={stages}; choose 4 (images below 96 pixels), 5 (up to 128) or 6 (above)")
        self.refinenet = RefineNet(
            in_channels,
            channels,
            multipliers=MULTIPLIERS[stages],
            dilations=(1,) * (stages - 2) + (2, 4),
            nonlinearity=nonlinearity,
            centered=centered,
        )

    def forward(
        self,
        x: Float[Tensor, "batch channels height width"],
        c: Float[Tensor, " batch"],
        label: Integer[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch channels height width"]:
        """The network's output, like x: sigma times the score.

        Args:
            x: images in model units, whose height and width are multiples of 2, 4 or 8 with 4, 5 or 6 stages.
            c: one number per sample, without effect.
            label: None; an NCSNv2 has no class labels.

        Raises:
            ValueError: where the images have other channels or a size that the stages do not halve evenly, where c is
                not one number per sample, and where labels are given.
        """
        check_batch(x, c, label)
        if label is not None:
            raise ValueError("labels were given to an NCSNv2, which has no classes; leave them out or take a UNet")
        return self.refinenet(x)  # type: ignore[no-any-return]
