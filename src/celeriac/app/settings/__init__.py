"""The settings of an application: Celery's lower-case names, typed, checked, frozen.

`Conf` gathers them from their sources and builds the `Settings`.
"""

from celeriac.app.settings.conf import Conf, Layer
from celeriac.app.settings.kinds import FrozenDict
from celeriac.app.settings.processors import available_processors
from celeriac.app.settings.table import Ignored, SettingInfo, Settings, describe

__all__ = ["Conf", "FrozenDict", "Ignored", "Layer", "SettingInfo", "Settings", "available_processors", "describe"]
