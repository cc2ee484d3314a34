"""A certificate that signs itself, for servers of the tests that speak TLS."""

from __future__ import annotations

import subprocess
from pathlib import Path

from servers.binaries import program


def write_certificate(certificate: Path, key: Path) -> None:
    """Write one for 127.0.0.1 and localhost, good for two days."""
    subprocess.run(
        [program("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
