"""SIGINT and SIGTERM as a wish: the step is finished and the state written before a training ends."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Wish:
    """Whether the training was asked to stop."""

    stop = False


@contextmanager
def graceful() -> Iterator[Wish]:
    """Turn the first SIGINT or SIGTERM into `stop`; a second one acts as it always did.

    Outside the main thread signals cannot be caught, and nothing changes.
    """
    wish = Wish()
    if threading.current_thread() is not threading.main_thread():
        yield wish
        return
    old = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        wish.stop = True
        for each, action in old.items():
            signal.signal(each, action)

    for number in old:
        signal.signal(number, handle)
    try:
        yield wish
    finally:
        for number, action in old.items():
            signal.signal(number, action)
