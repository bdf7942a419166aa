"""Which class stands behind a name that a repository has stored: a dict, filled by a decorator.

There is one for steps and one for pipelines, each beside its class. They are state of a process as the code is that it has
imported.
"""

from __future__ import annotations

import logging
from typing import Any

from stretto.process.exception import NameTakenException

log = logging.getLogger(__name__)


def register(new: type[Any], registry: dict[str, type[Any]]) -> None:
    """Put the class under its `name`; NameTakenException if another class has it.

    One without a name is left out: making an instance of it says what is wrong. A class that is defined again at the same
    place, as a reloaded module does, takes the place of the first.
    """
    if not new.name:
        log.warning("class not registered: it has no name", extra={"class": new.__qualname__})
        return
    old = registry.get(new.name)
    if old is not None and (old.__module__, old.__qualname__) != (new.__module__, new.__qualname__):
        raise NameTakenException(
            f"{new.__module__}.{new.__qualname__} and {old.__module__}.{old.__qualname__} are both named {new.name!r}",
            hint="give one of the two classes another name",
        )
    registry[new.name] = new
