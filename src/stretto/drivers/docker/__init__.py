"""The driver `docker`: each attempt is a container of a Docker engine, spoken to through its API and never through its CLI.

settings.py    what a person may choose
endpoint.py    where the engine is, and how to get a connection to it
transport.py   HTTP/1.1 over such connections: pool, streams, hijacking; foreign errors become ours here
client.py      the engine's API: versions, JSON, refusals
auth.py        credentials for registries
image.py       images: there, pulled or missing
wrapper.py     the script of an attempt as files
container.py   what an attempt is to the engine; how it ended
output.py      an attempt's gate and its output
tree.py        the attempt's files: an overlay volume, a bind mount, an upload
cleanup.py     deleting what the engine wrote as another user
driver.py      the driver itself
"""

from stretto.drivers.docker.driver import DockerDriver
from stretto.drivers.docker.settings import DockerSettings

__all__ = ["DockerDriver", "DockerSettings"]
