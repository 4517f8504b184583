"""The settings: declared in ``fields``, ``pool_fields`` and ``provider_fields``, read by ``reader``, documented by ``reference``."""

from taskfleet.settings.declaring import Field
from taskfleet.settings.describing import describe
from taskfleet.settings.fields import Settings
from taskfleet.settings.reader import DEFAULT_FILE, Configuration, read_configuration
from taskfleet.settings.suggesting import command_for

__all__ = ["DEFAULT_FILE", "Configuration", "Field", "Settings", "command_for", "describe", "read_configuration"]
