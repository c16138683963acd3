"""Public formats: models that other programs wrote, as models of this library.

`load_public` looks at what lies at a path and calls the reader that it is for. No reader runs code of a file.
"""

from scorefield.convert.public import is_public, load_public
from scorefield.convert.weights import ConversionError

__all__ = ["ConversionError", "is_public", "load_public"]
