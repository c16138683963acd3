"""The names of the weights of NCSN and NCSNv2 in the PyTorch code that was published with Song et al. (2021).

That code keeps one attribute per layer: ``begin_conv``, ``normalizer`` and ``end_conv``; ``res1`` … ``res5`` for the
stages of the encoder, finest first; ``refine1`` … ``refine5`` for the blocks of the decoder, coarsest first. The
network for 256 pixels has one more of each, ``res31`` after ``res3`` and ``refine31`` before ``refine3``. Only the
names differ from ours, not the tensors. NCSNv2 has one entry more there, its noise levels ``sigmas``.
"""

from collections.abc import Iterator

from torch import nn

from scorefield.nn.ncsn import NCSN
from scorefield.nn.ncsnv2 import NCSNv2
from scorefield.nn.normalization import ConditionalInstanceNormPlus
from scorefield.nn.refinenet import DilatedBlock, RefineBlock, ResidualUnits, Stage

STAGES = {4: ("1", "2", "3", "4"), 5: ("1", "2", "3", "4", "5"), 6: ("1", "2", "3", "31", "4", "5")}
"""What the stages of the encoder are called, finest first, by their number."""

BLOCKS = {4: ("4", "3", "2", "1"), 5: ("5", "4", "3", "2", "1"), 6: ("5", "4", "3", "31", "2", "1")}
"""What the blocks of the decoder are called, finest first, by their number."""


def reference_names(network: NCSN | NCSNv2) -> dict[str, str]:
    """What the reference calls each weight of a network: our name to its name, without ``module.`` in front.

    >>> names = reference_names(NCSNv2(channels=2))
    >>> names["refinenet.encoder.1.block1.shortcut.weight"], names["refinenet.decoder.3.refine.units.0.conv2.weight"]
    ('res2.0.shortcut.conv.weight', 'refine1.output_convs.1_2_conv.weight')
    """
    prefixes = {module: name for name, module in network.named_modules()}
    return {
        f"{prefixes[layer]}.{part}": f"{theirs}.{'embed.weight' if _is_table(layer) else part}"
        for layer, theirs in _layers(network)
        for part, _ in layer.named_parameters()
    }


def _is_table(layer: nn.Module) -> bool:
    return isinstance(layer, ConditionalInstanceNormPlus)


def _layers(network: NCSN | NCSNv2) -> Iterator[tuple[nn.Module, str]]:
    """Every convolution and normalization, and what the reference calls it."""
    refinenet = network.refinenet
    yield refinenet.conv_in, "begin_conv"
    yield refinenet.norm, "normalizer"
    yield refinenet.conv_out, "end_conv"
    count = len(refinenet.encoder)
    for stage, number in zip(refinenet.encoder, STAGES[count], strict=True):
        assert isinstance(stage, Stage)
        yield from _dilated_block(stage.block1, f"res{number}.0")
        yield from _dilated_block(stage.block2, f"res{number}.1")
    for block, number in zip(refinenet.decoder, BLOCKS[count], strict=True):
        assert isinstance(block, RefineBlock)
        yield from _refine_block(block, f"refine{number}")


def _dilated_block(block: DilatedBlock, theirs: str) -> Iterator[tuple[nn.Module, str]]:
    pooled = ".conv" if block.halves else ""
    yield block.norm1, f"{theirs}.normalize1"
    yield block.conv1, f"{theirs}.conv1"
    yield block.norm2, f"{theirs}.normalize2"
    yield block.conv2, f"{theirs}.conv2{pooled}"
    if block.shortcut is not None:
        yield block.shortcut, f"{theirs}.shortcut{pooled}"


def _refine_block(block: RefineBlock, theirs: str) -> Iterator[tuple[nn.Module, str]]:
    for i, units in enumerate(block.adapt):
        assert isinstance(units, ResidualUnits)
        yield from _residual_units(units, f"{theirs}.adapt_convs.{i}")
    for ours, part in ((block.fuse, "msf"), (block.pool, "crp")):
        if ours is not None:
            for i, (norm, conv) in enumerate(zip(ours.norms, ours.convs, strict=True)):
                yield norm, f"{theirs}.{part}.norms.{i}"
                yield conv, f"{theirs}.{part}.convs.{i}"
    yield from _residual_units(block.refine, f"{theirs}.output_convs")


def _residual_units(units: ResidualUnits, theirs: str) -> Iterator[tuple[nn.Module, str]]:
    for i, unit in enumerate(units.units, start=1):
        for j in (1, 2):
            yield getattr(unit, f"norm{j}"), f"{theirs}.{i}_{j}_norm"
            yield getattr(unit, f"conv{j}"), f"{theirs}.{i}_{j}_conv"
