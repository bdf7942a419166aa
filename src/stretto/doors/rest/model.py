"""The shapes of requests and answers, for the OpenAPI document and for reading bodies.

Answers are not built from these: they are what the command line prints, and a test holds them against this.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from stretto.core.states import Status

PLAIN = r"^[^\x00-\x1f\x7f]+$"
"""One line of text: no control characters."""
LINE = Annotated[str, StringConstraints(max_length=2_000, pattern=PLAIN)]
NAME = Annotated[str, StringConstraints(max_length=255, pattern=PLAIN)]
VARIABLE = Annotated[str, StringConstraints(max_length=200, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
VALUE = Annotated[str, StringConstraints(max_length=100_000, pattern=r"^[^\x00]*$")]
KEY = Annotated[str, StringConstraints(max_length=255, pattern=r"^[\x21-\x7e]+$")]
"""An idempotency key: what may stand in a header."""
UPLOAD = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
SCOPE = Literal["read", "run", "admin"]

MAX_RUN_NUMBER = 2**62
MAX_PIPELINES = 50
"""Of one request: each is a run."""
MAX_OVERRIDES = 200
MAX_VARIABLES = 1_000
MAX_PRIORITY = 1_000


class _Body(BaseModel):
    """What is sent: an unknown key is a mistake and told as one."""

    model_config = ConfigDict(extra="forbid", strict=True)


class _Answer(BaseModel):
    """What is answered: keys may be added within a version of the API."""

    model_config = ConfigDict(extra="allow")


class Submit(_Body):
    """What to run."""

    model_config = ConfigDict(json_schema_extra={"anyOf": [{"required": ["repository"]}, {"required": ["upload"]}]})

    repository: LINE | None = Field(None, description="https://, http://, ssh:// or user@host:path.")
    upload: UPLOAD | None = Field(None, description="The id of a tree that was uploaded, instead of a repository.")
    branch: NAME | None = None
    commit: NAME | None = None
    file: LINE | None = Field(None, description="The definition file, as a path within the repository.")
    pipelines: list[NAME] = Field([], max_length=MAX_PIPELINES, description="One run for each.")
    definition: str | None = Field(None, description="The text of a definition to use instead of the repository's.")
    variables: dict[VARIABLE, VALUE] = Field({}, max_length=MAX_VARIABLES)
    overrides: list[VALUE] = Field([], max_length=MAX_OVERRIDES, description="KEY=VALUE each, as of `--set`.")
    driver: NAME | None = None
    priority: int = Field(0, ge=-MAX_PRIORITY, le=MAX_PRIORITY)
    idempotency_key: KEY | None = None
    validate_: bool = Field(
        False,
        alias="validate",
        description="Compile before answering: all faults are told, and nothing is stored then.",
    )


class Check(_Body):
    """A definition to look at."""

    definition: str
    file: LINE = Field("pipeline.yml", description="What to call it.")


class Cancel(_Body):
    """What to cancel of a run: all of it, or one job."""

    job: NAME | None = None
    force: bool = Field(False, description="Without grace.")


class Retry(_Body):
    """What to do again of a run that is over."""

    failed_only: bool = Field(True, description="Keep what succeeded.")


class NewToken(_Body):
    """A token to make."""

    name: NAME
    scope: SCOPE
    repositories: list[NAME] = Field([], max_length=100, description="Patterns of addresses it is bound to.")
    expires_at: datetime | None = Field(None, strict=False, description="With a time zone.")


class Sweep(_Body):
    """What to keep; the server's settings say what is not said here."""

    keep_days: float | None = Field(None, ge=0, le=36_500)
    max_bytes: int | None = Field(None, ge=0, le=2**60)
    dry_run: bool = False


class Run(_Answer):
    """A run without its jobs."""

    number: int
    id: str
    kind: str
    name: str
    status: Status
    reason: str | None
    message: str | None
    repository: str | None
    branch: str | None
    commit: str | None
    commit_message: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    duration_s: float | None
    priority: int
    by: str
    retry_of: int | None


class Runs(_Answer):
    """Runs that were accepted."""

    runs: list[Run]


class RunPage(Runs):
    """Runs, newest first; `next` is the `before` of the page after this one, null where there is none."""

    next: int | None


class Fault(_Answer):
    """A fault of a definition."""

    file: str
    line: int
    column: int
    rule: str
    message: str
    hint: str | None


class Faults(_Answer):
    """All faults of a definition."""

    faults: list[Fault]


class Spec(_Answer):
    """A compiled graph of jobs; what equals its default is left out of a job."""

    version: int
    kind: str
    name: str
    stages: list[str]
    jobs: list[dict[str, Any]]
    fail_fast: bool
    timeout_s: float | None
    source: dict[str, Any] | None
    definition: str | None


class Specs(_Answer):
    """What would run."""

    specs: list[Spec]


class Event(_Answer):
    """Something that happened to a run; further keys depend on `kind`."""

    kind: str
    at: datetime


class NumberedEvent(_Answer):
    """An event with its number in its run, from 1."""

    seq: int
    event: Event


class Events(_Answer):
    """Events in order."""

    events: list[NumberedEvent]


class Artifact(_Answer):
    """A file that a job left; `link` is what a symbolic link says."""

    job: str
    attempt: int
    path: str
    size_bytes: int
    digest: str
    executable: bool
    link: str | None


class Artifacts(_Answer):
    """What jobs left."""

    artifacts: list[Artifact]


class Upload(_Answer):
    """A tree that was uploaded: `upload` is what a submission names it by."""

    upload: str
    digest: str
    commit: str
    repository: str
    branch: str | None
    size_bytes: int


class Token(_Answer):
    """What is known of a token."""

    id: str
    name: str
    scope: SCOPE
    repositories: list[str]
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    used_at: datetime | None
    revoked_at: datetime | None


class Tokens(_Answer):
    """Tokens, newest first."""

    tokens: list[Token]


class MadeToken(Token):
    """A token that was made, with its text, which is told this once."""

    token: str


class AuditEntry(_Answer):
    """Who did what."""

    id: int
    at: datetime
    who: str
    token: str | None
    action: str
    target: str
    address: str
    outcome: str


class AuditPage(_Answer):
    """Entries of the audit log, newest first; `next` is the `before` of the page after this one."""

    entries: list[AuditEntry]
    next: int | None


class Swept(_Answer):
    """What was deleted, or would be."""

    runs: int
    attempts: int
    freed_bytes: int
    dry_run: bool


class Version(_Answer):
    """Which server this is."""

    version: str
    api: str


class Health(_Answer):
    """That the server answers, or is ready; `degraded`: it accepts all, and something is late, as `told` says."""

    status: Literal["ok", "degraded"]
    told: str | None = None


class WrongField(_Answer):
    """What is wrong with a request, and where."""

    where: str
    message: str


class Problem(_Answer):
    """An error, by RFC 9457. The last part of `type` is a word for machines."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    request_id: str
    hint: str | None = None
    faults: list[Fault] | None = None
    errors: list[WrongField] | None = None


BODIES: tuple[type[BaseModel], ...] = (Submit, Check, Cancel, Retry, NewToken, Sweep)
ANSWERS: tuple[type[BaseModel], ...] = (
    Run,
    Runs,
    RunPage,
    Faults,
    Specs,
    Spec,
    Events,
    Artifacts,
    Upload,
    Token,
    Tokens,
    MadeToken,
    AuditPage,
    Swept,
    Version,
    Health,
    Problem,
)
