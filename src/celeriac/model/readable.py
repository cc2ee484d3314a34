"""Types that several threads may read from data at once.

msgspec learns what is in a type when it first reads one, and keeps that with the type. A second thread that comes
meanwhile finds it half learnt, and the process dies of it (SIGSEGV, measured on 0.22.0). So whatever is read by its
type, and not by a decoder that a module makes when it is imported, is learnt before.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

_LEARNING: Final = threading.Lock()


def learn(*types: Any, dec_hook: Callable[[type, Any], Any] | None = None) -> None:
    """Have msgspec learn what is in these types, one thread after another.

    Args:
        *types: Whatever it can read.
        dec_hook: For what it does not know by itself.

    Raises:
        TypeError: One of them is nothing that it can read.
    """
    with _LEARNING:
        for each in types:
            msgspec.json.Decoder(each, dec_hook=dec_hook)
