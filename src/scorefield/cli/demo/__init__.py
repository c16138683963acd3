"""`scorefield demo`: what the library is about, as one page of pictures."""

from scorefield.cli.demo.command import demo

__all__ = ["demo"]
