"""Bytes to model and back: Celery's protocol 2, its typed JSON, msgpack, compression, exceptions, arguments."""

from celeriac.codec.arguments import Parameters
from celeriac.codec.dates import epoch_from_iso, iso_from_epoch
from celeriac.codec.exceptions import decode_exception, encode_exception, shown_exception
from celeriac.codec.limits import Limits
from celeriac.codec.protocol import Call, Codec, EncodedBody
from celeriac.codec.results import ResultMeta

__all__ = [
    "Call",
    "Codec",
    "EncodedBody",
    "Limits",
    "Parameters",
    "ResultMeta",
    "decode_exception",
    "encode_exception",
    "epoch_from_iso",
    "iso_from_epoch",
    "shown_exception",
]
