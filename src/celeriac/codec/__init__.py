"""Bytes to model and back: Celery's protocol 2, its typed JSON, msgpack, compression, exceptions, arguments."""

from celeriac.codec.arguments import Parameters
from celeriac.codec.dates import epoch_from_iso, iso_from_epoch
from celeriac.codec.exceptions import decode_exception, encode_exception, shown_exception
from celeriac.codec.keys import Key, KeyFile, make_key, read_keys, write_keys
from celeriac.codec.limits import Limits
from celeriac.codec.protocol import Call, Codec, EncodedBody
from celeriac.codec.results import ResultMeta
from celeriac.codec.sealing import HIDDEN, SEALED, Sealer
from celeriac.codec.signing import Signer

__all__ = [
    "HIDDEN",
    "SEALED",
    "Call",
    "Codec",
    "EncodedBody",
    "Key",
    "KeyFile",
    "Limits",
    "Parameters",
    "ResultMeta",
    "Sealer",
    "Signer",
    "decode_exception",
    "encode_exception",
    "epoch_from_iso",
    "iso_from_epoch",
    "make_key",
    "read_keys",
    "shown_exception",
    "write_keys",
]
