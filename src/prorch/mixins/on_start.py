"""Lives in `stretto.process.mixin`."""

from stretto.process.mixin import OnStartMixin as OnStartMixin
