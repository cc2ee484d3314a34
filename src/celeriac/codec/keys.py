"""Keys by their id, and the file they are kept in: what messages and results are signed and encrypted with.

The file is JSON: `{"keys": [{"kid": "2026-11", "alg": "hmac-sha256", "secret": "<base64>", "status": "active"}]}`. A
key goes from `verify` to `active`, back to `verify`, then to `gone`, on all machines before the next step is made on
the first: so nobody ever meets a signature whose key he has not heard of. Files are read again while the process runs.

Ed25519 and AES come from the package `cryptography`, which is imported when the file names them.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import stat
import threading
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, cast

import msgspec

from celeriac.clock import SYSTEM_CLOCK, Clock
from celeriac.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

HMAC: Final = "hmac-sha256"
ED25519: Final = "ed25519"
AES: Final = "aes-256-gcm"

_KID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MOST_BYTES: Final = 1024 * 1024
_LOOK_EVERY_S: Final = 1.0


class Key(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One key, as the file has it. Its text form shows no secret."""

    kid: str
    """Its id: letters, digits, `_` and `-`."""
    alg: Literal["hmac-sha256", "ed25519", "aes-256-gcm"]
    status: Literal["active", "verify", "gone"] = "verify"
    """`active`: used for what is new; `verify`: what it signed or encrypted is still read; `gone`: refused."""
    secret: str | None = None
    """Base64: of HMAC and AES the key, of Ed25519 the private one, which only its signer has."""
    public: str | None = None
    """Base64: the public key of Ed25519."""
    tasks: tuple[str, ...] | None = None
    """Names or globs of the tasks that it may sign; None: all."""
    queues: tuple[str, ...] | None = None
    """The same for queues."""
    results: bool = True
    """Whether a result that it signed is believed."""

    def __repr__(self) -> str:
        return f"<Key {self.kid} {self.alg} {self.status}>"

    def allows(self, task: str, queue: str) -> bool:
        """Whether it may sign a message of this task to this queue."""
        return _is_among(task, self.tasks) and _is_among(queue, self.queues)


class _Keys(msgspec.Struct, forbid_unknown_fields=True):
    keys: tuple[Key, ...]


_decode = msgspec.json.Decoder(_Keys).decode


class Usable:
    """A key with what it can do: `sign` and `verify`, or `cipher`."""

    __slots__ = ("cipher", "key", "sign", "verify")

    def __init__(self, key: Key) -> None:
        self.key = key
        self.sign: Callable[[bytes], bytes] | None = None
        self.verify: Callable[[bytes, bytes], bool] | None = None
        self.cipher: Any = None
        if not _KID.fullmatch(key.kid):
            raise ConfigError(f"the id {key.kid!r:.80} is not of 1 to 64 letters, digits, '_' and '-'")
        if key.status == "gone":
            return
        secret, public = _bytes(key, "secret"), _bytes(key, "public")
        if key.alg == HMAC:
            self._hmac(secret)
        elif key.alg == ED25519:
            self._ed25519(secret, public)
        else:
            if secret is None or len(secret) != 32:
                raise ConfigError(f"key {key.kid}: AES-256 has a secret of 32 bytes")
            aead = _imported("cryptography.hazmat.primitives.ciphers.aead", AES)
            self.cipher = aead.AESGCM(secret)
        if key.status == "active" and not self._is_whole():
            raise ConfigError(f"key {key.kid} is active, and without its secret it can sign nothing: make it 'verify'")

    def _is_whole(self) -> bool:
        return self.sign is not None or self.cipher is not None

    def _hmac(self, secret: bytes | None) -> None:
        import hmac

        if secret is None or len(secret) < 32:
            raise ConfigError(f"key {self.key.kid}: HMAC-SHA256 has a secret of 32 bytes or more")
        digest, compare = hmac.digest, hmac.compare_digest
        self.sign = lambda data: digest(secret, data, "sha256")
        self.verify = lambda data, signature: compare(digest(secret, data, "sha256"), signature)

    def _ed25519(self, secret: bytes | None, public: bytes | None) -> None:
        ed25519 = _imported("cryptography.hazmat.primitives.asymmetric.ed25519", ED25519)
        invalid = _imported("cryptography.exceptions", ED25519).InvalidSignature
        try:
            private = None if secret is None else ed25519.Ed25519PrivateKey.from_private_bytes(secret)
            if public is None and private is not None:
                key = private.public_key()
            elif public is not None:
                key = ed25519.Ed25519PublicKey.from_public_bytes(public)
            else:
                raise ConfigError(f"key {self.key.kid}: Ed25519 has a public key, a secret, or both")
        except ValueError as exc:
            raise ConfigError(f"key {self.key.kid}: no key of Ed25519: {exc}") from None

        def verify(data: bytes, signature: bytes) -> bool:
            try:
                key.verify(signature, data)
            except invalid:
                return False
            return True

        self.sign = None if private is None else cast("Callable[[bytes], bytes]", private.sign)
        self.verify = verify


class KeyRing:
    """Keys as they were when the file was read; immutable.

    Raises:
        ConfigError: A key is wrong; the message names it, never its secret.
    """

    __slots__ = ("_signers", "by_kid", "cipher")

    def __init__(self, keys: Sequence[Key]) -> None:
        self.by_kid: dict[str, Usable] = {}
        for key in keys:
            if key.kid in self.by_kid:
                raise ConfigError(f"two keys have the id {key.kid!r}")
            self.by_kid[key.kid] = Usable(key)
        active = [usable for usable in self.by_kid.values() if usable.key.status == "active"]
        self._signers = [usable for usable in active if usable.sign is not None]
        self.cipher = next((usable for usable in active if usable.cipher is not None), None)
        """What is new is encrypted with it; None: there is no active AES key."""

    def signer(self, task: str | None = None, queue: str = "") -> Usable | None:
        """The first active key that may sign this message; without a task, the first that may sign results."""
        for usable in self._signers:
            if usable.key.results if task is None else usable.key.allows(task, queue):
                return usable
        return None


class KeyFile:
    """A key file that is read again when it changes; safe to share between threads and over `fork()`.

    Args:
        path: Where it is.
        clock: Says when it is time to look; that is once a second at most, and only when keys are needed.

    Raises:
        ConfigError: It is not there, others may read it, or what is in it is wrong.
    """

    def __init__(self, path: str | os.PathLike[str], *, clock: Clock = SYSTEM_CLOCK) -> None:
        self.path = Path(path)
        self._now = clock.monotonic
        self._lock = threading.Lock()
        self._stamp = self._look()
        self._ring = KeyRing(read_keys(self.path))
        self._look_at = self._now() + _LOOK_EVERY_S
        self.fault: str | None = None
        """Why the last change of the file was not taken over; the keys before it stay in use."""

    @property
    def ring(self) -> KeyRing:
        """The keys, at most a second old."""
        if self._now() >= self._look_at:
            self.reload()
        return self._ring

    def reload(self) -> bool:
        """Look at the file now; True when it has changed and was read."""
        with self._lock:
            self._look_at = self._now() + _LOOK_EVERY_S
            try:
                stamp = self._look()
                if stamp == self._stamp:
                    return False
                ring = KeyRing(read_keys(self.path))
                self._check_active(ring)
            except ConfigError as exc:
                if str(exc) != self.fault:
                    import logging

                    self.fault = str(exc)
                    logging.getLogger("celeriac").error("the keys that were read before stay in use: %s", exc)
                return False
            self._ring, self._stamp, self.fault = ring, stamp, None
            return True

    def _check_active(self, ring: KeyRing) -> None:
        """What signs and encrypts goes on to: without a key, nothing could be sent, and no task brought to its end."""
        for what, old, new in (
            ("sign results", self._ring.signer(), ring.signer()),
            ("encrypt", self._ring.cipher, ring.cipher),
        ):
            if old is not None and new is None:
                raise ConfigError(f"the key file {self.path} has no active key to {what} with any more")

    def _look(self) -> tuple[int, int, int]:
        try:
            found = self.path.stat()
        except OSError as exc:
            raise ConfigError(f"the key file {self.path} cannot be read: {exc.strerror}") from exc
        return found.st_mtime_ns, found.st_ino, found.st_size


def read_keys(path: Path) -> tuple[Key, ...]:
    """Read a key file.

    Raises:
        ConfigError: As `KeyFile`.
    """
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            raw = file.read(_MOST_BYTES + 1)
    except OSError as exc:
        raise ConfigError(f"the key file {path} cannot be read: {exc.strerror}") from exc
    mode = stat.S_IMODE(found.st_mode)
    if os.name == "posix" and mode & 0o037:
        raise ConfigError(
            f"the key file {path} has mode {mode:04o}: others could read or change it; use chmod 600 (or 640)"
        )
    if os.name == "posix" and found.st_uid not in (0, os.geteuid()):
        raise ConfigError(f"the key file {path} belongs to user {found.st_uid}, neither root nor who runs this")
    try:
        if len(raw) > _MOST_BYTES:
            raise ValueError("it is larger than 1 MiB")
        return _decode(raw).keys
    except (ValueError, RecursionError) as exc:
        raise ConfigError(f"the key file {path} is malformed: {exc}") from None  # its text would show what was read


def write_keys(path: Path, keys: Sequence[Key]) -> None:
    """Write a key file with mode 0600, in one step: whoever reads sees the old keys or the new ones."""
    KeyRing(keys)
    text = msgspec.json.format(msgspec.json.encode(_Keys(tuple(keys))), indent=2) + b"\n"
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def make_key(kid: str, alg: str, **how: Any) -> Key:
    """A fresh key; `how` is its other fields.

    Raises:
        ConfigError: The kind is unknown, or `cryptography` is missing.
    """
    import secrets  # the operating system's randomness: the seedable source of `clock` is no source of keys

    secret, public = secrets.token_bytes(32), None
    if alg == ED25519:
        ed25519 = _imported("cryptography.hazmat.primitives.asymmetric.ed25519", ED25519)
        public = _text(ed25519.Ed25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw())
    try:
        key = msgspec.convert({"kid": kid, "alg": alg, "secret": _text(secret), "public": public, **how}, Key)
    except msgspec.ValidationError as exc:
        raise ConfigError(f"no key can be made of {kid!r:.80}, {alg!r:.80}: {exc}") from None
    Usable(key)
    return key


def _is_among(name: str, globs: tuple[str, ...] | None) -> bool:
    return globs is None or any(fnmatchcase(name, glob) for glob in globs)


def _bytes(key: Key, field: str) -> bytes | None:
    text = getattr(key, field)
    if text is None:
        return None
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ConfigError(f"key {key.kid}: its field {field!r} is not base64") from None


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


def _imported(module: str, alg: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as exc:
        raise ConfigError(f"keys of {alg} need the package cryptography: pip install 'celeriac[security]'") from exc
