"""Lives in `stretto.process.provider`."""

from stretto.process.provider import BaseProvider as BaseProvider
