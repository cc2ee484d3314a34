"""Who sent a message, and what he sent: signatures over all of a message that says what is run, and over results.

A signature is one header: `1.<alg>.<kid>.<milliseconds>.<priority>.<place>.<signature>`. It is over the texts of this
header before the last dot, of every header that has a meaning, and over the SHA-256 of the body as it was sent, each
with its length in front: nothing is read and written again as JSON to be verified. Its own fields are what a header
block does not have: when it was signed, the priority, and the exchange and routing key of a message that is not sent to
a queue (else `place` is empty, and the queue is signed).

What is not signed describes and decides nothing: `argsrepr`, `kwargsrepr`, `origin`; nor is where a message stands in
its queue and from when on it is handed out, which only the broker knows.

Results carry theirs as the last field of the meta, over the bytes before it; members of chords as the first element.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import logging
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from celeriac.clock import SYSTEM_CLOCK, Clock
from celeriac.codec.dates import epoch_from_iso
from celeriac.codec.keys import ED25519, HMAC, KeyFile, Usable
from celeriac.errors import EncodeError, ResultTampered, SignatureError
from celeriac.model import Delivery

if TYPE_CHECKING:
    from collections.abc import Callable

    from celeriac.model import Headers, Outgoing

_ALGS: Final = {HMAC: "hs256", ED25519: "ed25519"}
_MOST: Final = 1024
"""Characters of a signature header."""
_FIELD: Final = b',"celeriac_signature":"'
_NAME: Final = b"\xb2celeriac_signature\xd9"
_NOWHERE: Final = "celeriac.nowhere"
_MOST_TOLD: Final = 1000
_log = logging.getLogger("celeriac")


class _Claim(NamedTuple):
    """A signature header, taken apart."""

    prefix: str
    """All of it that is signed."""
    alg: str
    kid: str
    created_at: float
    priority: int
    place: str
    signature: bytes


class Signer:
    """Signs and verifies for one application. Safe to share between threads.

    Args:
        keys: What with.
        required: Refuse what has no valid signature; False only tells of it, and takes it.
        namespace: Of the environment: what is signed in one is refused in others.
        window_s: How long after it was signed, or due, a message is still run.
        reply_to: Where results are expected of what this process sends. Given where the carrier would fill it in.
        clock: Says when something was signed.
    """

    __slots__ = ("_clock", "_keys", "_namespace", "_reply_to", "_told", "required", "window_s")

    def __init__(
        self,
        keys: KeyFile,
        *,
        required: bool,
        namespace: str = "default",
        window_s: float = 86_400.0,
        reply_to: Callable[[], str | None] | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._keys = keys
        self._namespace = namespace
        self._reply_to = reply_to
        self._clock = clock
        self._told: set[tuple[str, str]] = set()
        self.required = required
        self.window_s = window_s

    # -- messages ----------------------------------------------------------------------------------------------------

    def sign(
        self, head: Headers, body: bytes, *, queue: str, priority: int, address: tuple[str, str] | None = None
    ) -> Headers:
        """The headers with their signature, in the place of one that they have.

        Raises:
            EncodeError: No active key may sign this task for this queue.
        """
        usable = self._keys.ring.signer(head.task, queue)
        if usable is None or usable.sign is None:
            raise EncodeError(
                f"task {head.task!r} for queue {queue!r} cannot be signed: {self._keys.path} has no active key, with "
                "its secret, that may"
            )
        if self._reply_to is not None and head.reply_to is None:
            head = msgspec.structs.replace(head, reply_to=self._reply_to() or _NOWHERE)
        place = "" if address is None else _encoded("\0".join(address).encode())
        key = usable.key
        prefix = f"1.{_ALGS[key.alg]}.{key.kid}.{int(self._clock.time() * 1000)}.{priority}.{place}"
        signature = usable.sign(self._signed(prefix, head, body, queue if address is None else ""))
        return msgspec.structs.replace(head, signature=f"{prefix}.{_encoded(signature)}")

    def signed(self, message: Outgoing, head: Headers) -> Headers:
        """`head` signed as the headers of a message that is ready but for them."""
        address = None if message.exchange is None else (message.exchange, message.routing_key)
        return self.sign(head, message.body, queue=message.queue, priority=message.priority, address=address)

    def verify(self, head: Headers, delivery: Delivery) -> None:
        """Make sure that a delivered message is as a key that may do so has signed it, and is no older than it may be.

        Raises:
            SignatureError: It is not; `reason` says in a word why not. Not raised where signatures are not required,
                which is told in the log instead.
        """
        try:
            self._verify(head, delivery)
        except SignatureError as exc:
            if self.required:
                raise
            seen = exc.reason, head.task
            if seen not in self._told and len(self._told) < _MOST_TOLD:
                self._told.add(seen)
                _log.warning(
                    "%s[%s], and what else there is of the kind, is run, and would be refused if security_signing were "
                    "'require': %s",
                    head.task,
                    head.id,
                    exc,
                )

    def _verify(self, head: Headers, delivery: Delivery) -> None:
        if head.signature is None:
            raise SignatureError("it is not signed", reason="unsigned")
        claim = _claim_of(head.signature)
        usable = self._usable(claim.kid, claim.alg)
        if head.id != delivery.id:
            raise SignatureError(f"its place in the queue is that of {delivery.id!r:.80}", reason="forged")
        queue = delivery.queue if not claim.place else ""
        if not _is_right(usable, self._signed(claim.prefix, head, delivery.body, queue), claim.signature):
            raise SignatureError(
                f"its signature by key {claim.kid!r} is not of this message in this queue and namespace",
                reason="forged",
            )
        if delivery.priority not in (claim.priority, 0):  # read from a list of kombu's, every message has 0
            raise SignatureError(f"its priority was {claim.priority} and is {delivery.priority}", reason="forged")
        if claim.place and delivery.via is not None and _encoded("\0".join(delivery.via).encode()) != claim.place:
            raise SignatureError("it was signed for another exchange or routing key", reason="forged")
        if not usable.key.allows(head.task, delivery.queue):
            raise SignatureError(f"key {claim.kid!r} may not sign this task for this queue", reason="not allowed")
        since = claim.created_at
        if head.eta is not None:
            since = max(since, epoch_from_iso(head.eta))
        age_s = self._clock.time() - since
        if age_s > self.window_s:
            raise SignatureError(
                f"too old: {age_s:.0f} s after it was signed or due, and security_replay_window is "
                f"{self.window_s:.0f} s; if it is still wanted, put it back with `celeriac dead retry`",
                reason="too old",
            )

    def renew(self, head: Headers, body: bytes, queue: str, *, trusted: bool = False) -> tuple[Headers, int] | None:
        """Sign a dead letter again, for an operator who puts it back; with its priority.

        Args:
            head: Its headers.
            body: As it was sent.
            queue: Where it lay.
            trusted: Whatever is wrong with its signature; False: what is too old, and else as it was signed.

        Returns:
            None: it is not to be signed, or needs not.
        """
        try:
            claim = None if head.signature is None else _claim_of(head.signature)
            priority = 0 if claim is None else claim.priority
            tag = Delivery(tag=0, id=head.id, queue=queue, headers=b"", body=body, priority=priority)
            self._verify(head, tag)
        except SignatureError as exc:
            if not trusted and exc.reason != "too old":
                return None
            claim = None if exc.reason == "forged" or head.signature is None else _claim_of(head.signature)
            priority = 0 if claim is None else claim.priority
        else:
            return None
        return self.sign(head, body, queue=queue, priority=priority), priority

    def _usable(self, kid: str, alg: str, *, results: bool = False) -> Usable:
        usable = self._keys.ring.by_kid.get(kid)
        if usable is None and self._keys.reload():  # its signer may have the new file already
            usable = self._keys.ring.by_kid.get(kid)
        if usable is None:
            raise SignatureError(f"key {kid!r} is not in {self._keys.path}", reason="unknown key")
        if usable.key.status == "gone":
            raise SignatureError(f"key {kid!r} is gone", reason="gone key")
        if _ALGS.get(usable.key.alg) != alg or (results and not usable.key.results):
            raise SignatureError(f"key {kid!r} is not for this", reason="not allowed")
        return usable

    def _signed(self, prefix: str, head: Headers, body: bytes, queue: str) -> bytes:
        """What of a message is signed. Lengths are of characters; what is None has none."""
        limit = head.timelimit
        texts: list[str | None] = [
            "celeriac message 1",
            self._namespace,
            prefix,
            queue,
            head.task,
            head.id,
            head.root_id or head.id,
            head.parent_id,
            head.eta,
            head.expires,
            head.reply_to,
            head.correlation_id or head.id,
            head.compression,
            head.content_type,
            head.content_encoding,
            str(head.retries),
        ]
        if limit == (None, None):
            limit = None
        if head.group is not None or limit is not None or head.ignore_result is not None or head.shadow:
            texts += [
                "in a group or with options",
                head.group,
                head.shadow or None,
                None if limit is None else f"{_seconds(limit[0])} {_seconds(limit[1])}",
                _text(head.ignore_result),
            ]
        if head.replaced_task_nesting or head.celery_beat_task or head.group_index is not None:
            texts += ["rare", str(head.replaced_task_nesting), _text(head.celery_beat_task), _text(head.group_index)]
        if head.stamps or head.headers or head.stamped_headers is not None:
            texts.append("of the user's own")
            _flatten(texts, [head.stamped_headers, head.stamps, head.headers])
        joined = "".join(["-" if text is None else f"{len(text)}:{text}" for text in texts])
        return joined.encode("utf-8", "surrogatepass") + hashlib.sha256(body).digest()

    @property
    def can_sign_results(self) -> bool:
        """Whether there is a key for that, without which no worker can work."""
        return self._keys.ring.signer() is not None

    # -- results -----------------------------------------------------------------------------------------------------

    def sign_result(self, raw: bytes) -> bytes:
        """An encoded meta with its signature as last field."""
        if raw[:1] == b"{":
            return b'%b%b%b"}' % (raw[:-1], _FIELD, self._token(b"result", raw))
        more = _one_more(raw)
        token = self._token(b"result", _one_less(more))  # there are two ways to write a small map
        return more + _NAME + bytes((len(token),)) + token

    def check_result(self, raw: bytes) -> None:
        """Make sure that an encoded meta is as a worker of ours signed it.

        Raises:
            ResultTampered: It is not.
        """
        if raw[:1] == b"{":
            rest, found, token = raw[:-2].rpartition(_FIELD)
            rest += b"}"
            if raw[-2:] != b'"}':
                found = b""
        else:
            more, found, token = raw.rpartition(_NAME)
            if not token or token[0] != len(token) - 1:
                found = b""
            token, rest = token[1:], _one_less(more) if found else b""
        if not found:
            if self.required:
                raise ResultTampered("the result is not signed, and security_signing is 'require'")
            return
        self._check(b"result", rest, token)

    def sign_member(self, rest: bytes) -> bytes:
        """The first element of a chord's member, over the bytes of the others."""
        return self._token(b"member", rest)

    def check_member(self, token: bytes, rest: bytes) -> None:
        """As `check_result`, of what a chord keeps of a member.

        Raises:
            ResultTampered: It is not as it was signed.
        """
        if not token:
            if self.required:
                raise ResultTampered("a member of a chord is not signed, and security_signing is 'require'")
            return
        self._check(b"member", rest, token)

    def _token(self, what: bytes, raw: bytes) -> bytes:
        usable = self._keys.ring.signer()
        if usable is None or usable.sign is None:
            raise EncodeError(
                f"the result cannot be signed: {self._keys.path} has no active key, with its secret, that may sign "
                "results"
            )
        prefix = f"1.{_ALGS[usable.key.alg]}.{usable.key.kid}.{int(self._clock.time() * 1000)}.0."
        return f"{prefix}.{_encoded(usable.sign(self._of_result(what, prefix, raw)))}".encode()

    def _check(self, what: bytes, raw: bytes, token: bytes) -> None:
        try:
            claim = _claim_of(token.decode("ascii", "replace"))
            usable = self._usable(claim.kid, claim.alg, results=True)
        except SignatureError as exc:
            raise ResultTampered(f"the {what.decode()} is refused: {exc}") from exc
        if not _is_right(usable, self._of_result(what, claim.prefix, raw), claim.signature):
            raise ResultTampered(f"the {what.decode()} is not what key {claim.kid!r} has signed: it was changed")

    def _of_result(self, what: bytes, prefix: str, raw: bytes) -> bytes:
        texts = ("celeriac", self._namespace, prefix)
        return what + "".join([f"{len(text)}:{text}" for text in texts]).encode() + hashlib.sha256(raw).digest()


def _is_right(usable: Usable, data: bytes, signature: bytes) -> bool:
    return usable.verify is not None and usable.verify(data, signature)


def _claim_of(header: str) -> _Claim:
    prefix, _, signature = header.rpartition(".")
    parts = prefix.split(".")
    try:
        if len(header) > _MOST:
            raise ValueError
        version, alg, kid, milliseconds, priority, place = parts
        if version != "1" or not 0 < len(milliseconds) < 16 or not 0 < len(priority) < 3:
            raise ValueError
        return _Claim(prefix, alg, kid, int(milliseconds) / 1000, int(priority), place, _decoded(signature))
    except (ValueError, binascii.Error):
        raise SignatureError(f"its signature is {header!r:.80}, which is none of version 1", reason="forged") from None


def _flatten(texts: list[str | None], value: Any) -> None:
    """Plain data as texts, with what each is in front: the same for equal values, another for any others."""
    if value is None:
        texts.append(None)
    elif type(value) is str:
        texts += ["s", value]
    elif type(value) in (list, tuple):
        texts += ["l", str(len(value))]
        for item in value:
            _flatten(texts, item)
    elif type(value) is dict:
        texts += ["d", str(len(value))]
        for name in sorted(value):
            texts.append(name)
            _flatten(texts, value[name])
    else:
        texts += [type(value).__name__, repr(value)]


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _seconds(value: float | None) -> str:
    return "-" if value is None else repr(float(value))


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def _decoded(text: str) -> bytes:
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if _encoded(raw) != text:  # there are other texts for the same bytes
        raise ValueError
    return raw


def _one_more(raw: bytes) -> bytes:
    """A map of msgpack's, without what a field more adds at its end."""
    count, rest = _map(raw)
    return (b"\xde%b" % (count + 1).to_bytes(2, "big") if count >= 15 else bytes((0x81 + count,))) + rest


def _one_less(raw: bytes) -> bytes:
    count, rest = _map(raw)
    return (b"\xde%b" % (count - 1).to_bytes(2, "big") if count > 16 else bytes((0x7F + count,))) + rest


def _map(raw: bytes) -> tuple[int, bytes]:
    if raw[:1] == b"\xde":
        return int.from_bytes(raw[1:3], "big"), raw[3:]
    if raw and 0x80 <= raw[0] <= 0x8F:
        return raw[0] & 15, raw[1:]
    return 1, b""
