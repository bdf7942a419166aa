"""The store of a server: PostgreSQL, for several conductors and API servers at once."""

from __future__ import annotations

from stretto.store.postgres.copy import copy
from stretto.store.postgres.database import mask_url
from stretto.store.postgres.schema import SchemaState, status, upgrade
from stretto.store.postgres.store import PostgresStore

__all__ = ["PostgresStore", "SchemaState", "copy", "mask_url", "status", "upgrade"]
