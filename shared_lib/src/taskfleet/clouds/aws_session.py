"""Sessions of AWS's SDK that share its descriptions of services: reading those of one takes up to a second, and is done once."""

from functools import cache
from typing import Any

from botocore.loaders import create_loader
from botocore.session import Session, get_session


def open_session() -> Session:
    """Open a session with the credentials, profile and endpoints of the SDK's own chain."""
    session = get_session()
    session.register_component("data_loader", _loader(session.get_config_variable("data_path")))
    return session


@cache
def _loader(data_path: str | None) -> Any:
    return create_loader(data_path)
