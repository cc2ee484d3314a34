"""celeriac: a distributed task queue for Python."""

from celeriac._version import __version__

__all__ = ["__version__"]
