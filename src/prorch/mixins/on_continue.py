"""Lives in `stretto.process.mixin`."""

from stretto.process.mixin import OnContinueMixin as OnContinueMixin
