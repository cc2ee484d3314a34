"""The sockets for other systems' message forms: what an adapter asks that shares queues with Celery's processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from celeriac.model import Outgoing


class ForeignForm(Protocol):
    """Another form of the messages of ours: one byte string that holds everything, as it lies in a foreign list.

    Made by `app` and handed to the adapter, which moves bytes and never looks into them. Safe to share between threads
    and after `fork()`.
    """

    def decode(self, payload: bytes, queue: str, /) -> Outgoing:
        """Read what somebody else published to `queue` into a message of ours, ready to be stored.

        Never raises. What cannot be read becomes a message whose `headers` say why, in a form that the engine refuses
        with that reason, and whose `body` is `payload` itself: handed to a worker like any other, it ends in the dead
        letters. Its id is the task's where that can be found, else `foreign-` and a digest of the payload, so the same
        payload has the same id each time.
        """

    def encode(self, message: Outgoing, /) -> bytes:
        """Write a message of ours as the other system's own producers would; each call makes a fresh delivery tag.

        Raises:
            EncodeError: `message.headers` is not a header block of ours.
        """


class PropertiesForm(Protocol):
    """The form in which messages travel over AMQP: properties with a table of headers, and a body beside them.

    Every message on such a broker has it, ours and Celery's alike. Made by `app` and handed to the adapter. Safe to
    share between threads and after `fork()`.
    """

    def decode(self, properties: bytes, body: bytes, queue: str, /) -> Outgoing:
        """Read a message that was taken from `queue`.

        Never raises; as `ForeignForm.decode`.

        Args:
            properties: The payload of its content header from the property flags on.
            body: As it came.
            queue: Where it lay.
        """

    def encode(self, message: Outgoing, /) -> tuple[bytes, bytes]:
        """Properties (from the flags on) and body of a message, as Celery's producers would write them.

        Raises:
            EncodeError: `message.headers` is not a header block of ours, or a header has no place in a table.
        """
