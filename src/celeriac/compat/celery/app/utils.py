"""Reports, and finding applications."""

from __future__ import annotations

import platform
from typing import Any

from celeriac import __version__
from celeriac.compat.conf import CeleryConf as Settings
from celeriac.masking import masked as sanitize_url

__all__ = ["Settings", "appstr", "bugreport", "filter_hidden_settings", "find_app", "sanitize_url"]


def appstr(app: Any) -> str:
    """A short text for an application."""
    return f"{app.main or '__main__'} at {id(app):#x}"


def bugreport(app: Any) -> str:
    """Versions and settings, as text."""
    lines = [
        f"software -> celeriac:{__version__} py:{platform.python_version()}",
        f"platform -> {platform.platform()}",
        f"settings -> transport:{app.broker_url.partition(':')[0]} results:{sanitize_url(app.conf.result_backend)}",
        "",
        app.conf.humanize(),
    ]
    return "\n".join(lines)


def filter_hidden_settings(conf: Any) -> dict[str, Any]:
    """The settings, without secrets."""
    return dict(conf.table()) if hasattr(conf, "table") else dict(conf)


def find_app(app: str, symbol_by_name: Any = None, imp: Any = None) -> Any:
    """The application that `-A` means."""
    from celeriac.app.application import Celeriac
    from celeriac.app.finder import find_app as find

    return find(app, Celeriac)
