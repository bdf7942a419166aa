"""Lives in `stretto.process.repository`."""

from stretto.process.repository import IRepository as IRepository
