"""Errors of messages and brokers: celeriac's own, under kombu's names."""

from __future__ import annotations

from celeriac.errors import ContentDisallowed, DecodeError, EncodeError, OperationalError

KombuError = SerializationError = Exception
SerializerNotInstalled = EncodeError
LimitExceeded = OperationalError
MessageStateError = OperationalError
ConnectionError = OperationalError

__all__ = [
    "ConnectionError",
    "ContentDisallowed",
    "DecodeError",
    "EncodeError",
    "KombuError",
    "LimitExceeded",
    "MessageStateError",
    "OperationalError",
    "SerializationError",
    "SerializerNotInstalled",
]
