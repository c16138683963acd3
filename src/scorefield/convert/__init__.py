"""Public formats: weights that other programs wrote, as weights of this library's networks."""

from scorefield.convert.reference import ConversionError, convert_unet, read_checkpoint, unet_options

__all__ = ["ConversionError", "convert_unet", "read_checkpoint", "unet_options"]
