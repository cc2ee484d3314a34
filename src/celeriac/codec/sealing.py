"""Encryption of what tasks are given and return: AES-256-GCM, bound to whose it is.

A sealed body begins with a byte 1, the key's id behind its length, and the nonce; then follows the ciphertext of the
body's content type of old, a zero byte, its compression, a zero byte, and the body. Its content type says that it is
sealed, so that who cannot open it refuses it for that. What is authenticated with it: namespace, task name and id of
the message; or that it is a result, and whose. So it cannot be put into another message.
"""

from __future__ import annotations

import base64
import os
from typing import TYPE_CHECKING, Final

from celeriac.errors import EncodeError, SealError

if TYPE_CHECKING:
    from celeriac.codec.keys import KeyFile

SEALED: Final = "application/x-celeriac-sealed"
"""The content type of a sealed body."""
HIDDEN: Final = "[encrypted]"
"""What is shown in its place."""

_NONCE: Final = 12


class Sealer:
    """Encrypts and decrypts for one application. Safe to share between threads.

    Args:
        keys: What with.
        seals: Encrypt what is sent; False: only read what is encrypted.
        namespace: As of `Signer`.
    """

    __slots__ = ("_keys", "_namespace", "seals")

    def __init__(self, keys: KeyFile, *, seals: bool, namespace: str = "default") -> None:
        self._keys = keys
        self._namespace = namespace
        self.seals = seals

    def seal(self, plain: bytes, what: str, *of: str) -> bytes:
        """Encrypt.

        Args:
            plain: What.
            what: `body`, `result` or `member`.
            of: Whose: it can be opened with the same texts only.

        Raises:
            EncodeError: There is no active key.
        """
        usable = self._keys.ring.cipher
        if usable is None:
            raise EncodeError(f"nothing can be encrypted: {self._keys.path} has no active key of aes-256-gcm")
        nonce = os.urandom(_NONCE)  # of the operating system: it must never come twice, in no process
        kid = usable.key.kid.encode()
        ciphertext: bytes = usable.cipher.encrypt(nonce, plain, self._bound(kid, what, of))
        return b"\1%b%b%b%b" % (bytes((len(kid),)), kid, nonce, ciphertext)

    def open(self, sealed: bytes, what: str, *of: str) -> bytes:
        """Decrypt what `seal` made of the same `what` and `of`.

        Raises:
            SealError: Its key is not here, or it is not that.
        """
        length = sealed[1] if len(sealed) > 1 else 0
        kid, rest = sealed[2 : 2 + length], sealed[2 + length :]
        if sealed[:1] != b"\1" or not 0 < length <= 64 or len(rest) < _NONCE + 16:
            raise SealError(f"the {what} is not encrypted in a form that is known here")
        name = kid.decode("ascii", "replace")
        usable = self._keys.ring.by_kid.get(name)
        if usable is None and self._keys.reload():
            usable = self._keys.ring.by_kid.get(name)
        if usable is None or usable.cipher is None:
            raise SealError(f"the {what} is encrypted with key {name!r:.80}, which {self._keys.path} does not have")
        from cryptography.exceptions import InvalidTag

        try:
            plain: bytes = usable.cipher.decrypt(rest[:_NONCE], rest[_NONCE:], self._bound(kid, what, of))
        except InvalidTag:
            raise SealError(
                f"the {what} encrypted with key {name!r} was changed, or is that of another task or namespace"
            ) from None
        return plain

    def seal_text(self, plain: bytes, what: str, *of: str) -> str:
        """As `seal`, for JSON."""
        return base64.b64encode(self.seal(plain, what, *of)).decode("ascii")

    def open_text(self, sealed: str, what: str, *of: str) -> bytes:
        """As `open`, of what `seal_text` made."""
        try:
            raw = base64.b64decode(sealed, validate=True)
        except ValueError as exc:
            raise SealError(f"the {what} is encrypted, and not base64") from exc
        return self.open(raw, what, *of)

    def _bound(self, kid: bytes, what: str, of: tuple[str, ...]) -> bytes:
        texts = ("celeriac sealed 1", self._namespace, what, *of)
        return kid + "".join([f"{len(text)}:{text}" for text in texts]).encode("utf-8", "surrogatepass")
