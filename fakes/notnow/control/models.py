"""What the control API takes and gives, as pydantic models: they check requests, and the OpenAPI document is made of them."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from notnow.conduct.finding import Outcome
from notnow.conduct.pictures.report import RunOutcome
from notnow.conduct.reading.result import Word
from notnow.conduct.rules.rule import Level
from notnow.errors import shown
from notnow.units import LONGEST, seconds

SCENARIO_TEXT = 1_000_000  # characters of a scenario's TOML
LONGEST_WAIT = 600.0  # real seconds
TIME = r"^[0-9]+(\.[0-9]+)?(ms|s|m|h|d)?$"


def parse_time(value: object) -> float:
    """Seconds. Raises ValueError for what is no time, or negative."""
    if not isinstance(value, (int, float, str)) or isinstance(value, bool):
        raise ValueError(f'{shown(value)} is no time; allowed: seconds as a number, or a duration such as "30s"')
    span = seconds(float(value) if isinstance(value, str) and value.replace(".", "", 1).isdecimal() else value)
    if span < 0:
        raise ValueError(f"{shown(value)} is negative; allowed: 0 or more")
    if span > LONGEST:
        raise ValueError(f"{shown(value)} is longer than a century; allowed: {LONGEST} at most")
    return span


Time = Annotated[
    float,
    BeforeValidator(parse_time),
    WithJsonSchema(
        {
            "anyOf": [{"type": "number", "minimum": 0, "maximum": LONGEST}, {"type": "string", "pattern": TIME}],
            "description": 'Seconds, or a duration such as "30s".',
        }
    ),
]


def _several(value: object) -> object:
    """`a,b` in a query as a list."""
    if isinstance(value, str):
        return [part for part in value.split(",") if part]
    if isinstance(value, list):
        return [part for one in value for part in (one.split(",") if isinstance(one, str) else [one]) if part]
    return value


def _plain_name(value: str | None) -> str | None:
    if value is not None and (value.endswith(".toml") or value.startswith((".", "/", "~")) or "\\" in value):
        raise ValueError(
            f"{value!r} is a path, and no file is read for a request; allowed: a name of the catalogue, or the text as `toml`"
        )
    return value


Several = Annotated[list[str], BeforeValidator(_several)]
Short = Annotated[str, Field(max_length=200)]
CatalogueName = Annotated[str, Field(max_length=200), AfterValidator(_plain_name)]
Acceptable = Literal["reported", "refused", "duplicated", "false alarm", "unknown", "lost"]
Page = Annotated[int, Field(ge=1, le=1000)]


class Body(BaseModel):
    """A request. A key that nothing reads is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    _known: ClassVar[dict[str, tuple[str, ...]]] = {}

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        Body._known[cls.__name__] = tuple(cls.model_fields)


class Json(Body):
    """The body of a request: a JSON value of another type is not converted."""

    model_config = ConfigDict(strict=True)


def keys_of(model: str) -> tuple[str, ...]:
    """The keys that a request of this model may have."""
    return Body._known.get(model, ())


# ---- what is asked ------------------------------------------------------------------------------


class Played(Json):
    """A scenario with its knobs: by its name in the catalogue, or as the text of a scenario file."""

    scenario: CatalogueName | None = Field(None, description="A name of the catalogue, such as smtp/overload.")
    toml: str | None = Field(None, max_length=SCENARIO_TEXT, description="The text of a scenario file.")
    knobs: dict[str, Any] = Field(default_factory=dict, description='Values for its knobs, such as {"outage": "5s"}.')
    ttl: Time | None = Field(None, description="Real time until it ends by itself.")


class NewServer(Played):
    """A fake to start."""

    name: Short | None = Field(None, description="Its name; without one it is called smtp, smtp2, …")
    group: Short | None = Field(None, description="Servers of one group share a clock and are judged together.")
    speed: float | None = Field(None, ge=0, le=1e9, description="How fast scenario time runs; 0: only when advanced.")
    host: Literal["127.0.0.1", "::1", "localhost"] = Field("127.0.0.1", description="Where it listens.")
    port: int = Field(0, ge=0, le=65535, description="0 is any free port.")
    tls: Literal["none", "starttls", "implicit"] | None = Field(None, description="Without it, what the scenario says.")
    users: dict[str, str] | None = Field(None, description="Who may log in, with their passwords.")
    files: dict[str, str] | None = Field(None, description='FTP: paths with a text, or a size such as "3MB".')
    seed: int | None = Field(None, ge=-(2**63), lt=2**63, description="Seed for all chances in the scenario.")
    journal_limit: int | None = Field(None, ge=1, le=1_000_000, description="The most exchanges in its journal.")
    shared: bool = Field(
        False,
        description="Whether it counts together with the servers of its name on all replicas of `serve --shared`.",
    )


class Advance(Json):
    """By how much to advance the clock."""

    by: Time = Field(description='Scenario time, such as "1h".')
    servers: list[Short] = Field(default_factory=list, description="Whose clocks; without any, all.")


class Check(Json):
    """A scenario file to check."""

    toml: str = Field(max_length=SCENARIO_TEXT)
    knobs: dict[str, Any] = Field(default_factory=dict)


class Empty(Json):
    """Nothing is asked but the call itself."""


class WhichServers(Body):
    server: Several = Field(default_factory=list, description="Only these servers.")


class JournalQuery(Body):
    """Which entries of the journal: those that pass every filter, page by page."""

    after: int = Field(0, ge=0, description="Only entries with a larger index: the `next` of the page before.")
    limit: Page = Field(100, description="The most entries of a page.")
    event: Several = Field(default_factory=list, description="exchange, closed, play, phase, forward, initial")
    moment: Several = Field(default_factory=list, description="Moments of the protocol, such as connect.")
    connection: int | None = Field(None, ge=1, description="The number of a connection.")
    code: int | None = Field(None, ge=100, le=599, description="A code of a reply.")
    rule: Short | None = Field(None, description="The key path of the rule that fired.")
    refused: bool | None = Field(None, description="Only what was refused, or only what was not.")
    last: bool = Field(False, description="The last page, and not the first.")


class VerdictQuery(WhichServers):
    """How to judge, as the options of `notnow try`."""

    format: Literal["json", "text", "junit", "markdown", "html"] = "json"
    level: Level = "should"
    accept: Annotated[list[Acceptable], BeforeValidator(_several)] = Field(default_factory=list)
    count: int | None = Field(None, ge=1, le=1_000_000_000, description="How many items the client was given.")
    exit: int | None = Field(None, ge=0, le=255, description="The client's exit code.")
    role: Literal["client", "proxy"] = "client"
    terminal: int | None = Field(None, ge=20, le=400, description="Text: in colour, for a terminal of this width.")
    verbose: bool = Field(False, description="Text: also the rules that these runs did not exercise.")
    journals: bool = Field(False, description="JSON: the journals as well, as in `try --json`.")
    most: int | None = Field(
        None, ge=0, le=1000, description="JSON: at most so many pieces of evidence for a rule, items, doubts and gaps."
    )


class EventsQuery(WhichServers):
    after: int | None = Field(None, ge=0, description="Begin after this event; the header Last-Event-ID does the same.")


class ScenariosQuery(Body):
    pattern: Short = "*"


# ---- what is answered ---------------------------------------------------------------------------


class Server(BaseModel):
    """A fake that runs."""

    name: str
    protocol: str
    scenario: str
    knobs: dict[str, Any]
    phase: str
    host: str
    port: int
    url: str
    tls: str
    ca_pem: str | None = Field(description="The CA that clients should trust; null without TLS.")
    ca_file: str | None
    group: str
    shared: str | None = Field(
        description="The service in which it counts with other replicas; null: it counts for itself."
    )
    speed: float
    now: float = Field(description="Scenario seconds on its clock.")
    seed: int
    connections: int = Field(description="How many clients have connected.")
    live: int = Field(description="How many are there now.")
    exchanges: int
    dropped: int
    stops_in: float | None = Field(description="Real seconds until it stops by itself.")
    returns_in: float | None = Field(description="Real seconds until the scenario from before plays again.")
    try_line: str = Field(description="A command that tries it.")


class ServerList(BaseModel):
    servers: list[Server]


class JournalPage(BaseModel):
    """Entries of a journal, as `serve --json` prints them."""

    entries: list[dict[str, Any]]
    next: int | None = Field(description="The `after` of the next page; null after the last.")
    dropped: int = Field(description="How many exchanges the full journal has dropped.")


class RuleState(BaseModel):
    """A rule of the scenario, and how often it has fired since the last play."""

    rule: str
    phase: str
    when: str
    does: str
    lines: list[str]
    fired: int
    left: int | None = Field(
        description="How often it still can; null if nothing bounds it or its phase does not play."
    )


class RuleList(BaseModel):
    rules: list[RuleState]


class Why(BaseModel):
    """Why a rule fired at an exchange, or did not."""

    rule: str
    fired: bool
    why: str


class Whys(BaseModel):
    rules: list[Why]


class Mail(BaseModel):
    """An accepted message."""

    sender: str
    recipients: list[str]
    user: str | None
    at: float
    connection: int
    message_id: str | None
    subject: str | None
    size: int
    content: str = Field(description="The message as it came; as text, bytes that are no UTF-8 are replaced.")


class MessageList(BaseModel):
    messages: list[Mail]
    next: int | None = Field(description="The `after` of the next page; null after the last.")


class MessagesQuery(Body):
    after: int = Field(0, ge=0, description="The `next` of the page before.")
    limit: Page = Field(100, description="The most messages of a page.")
    encoding: Literal["text", "base64"] = Field("text", description="Of `content`; base64 keeps every byte.")


class File(BaseModel):
    path: str
    size: int
    partial: bool = Field(description="An upload that is not complete.")


class FileList(BaseModel):
    files: list[File]


class Kicked(BaseModel):
    kicked: int = Field(description="How many clients were cut off.")


class Sightings(BaseModel):
    """What was waited for, and how often it has come."""

    seen: dict[str, int]
    phase: str


class Clocks(BaseModel):
    """The time on each clock, in scenario seconds."""

    now: dict[str, float]


class RuleVerdict(BaseModel):
    """What became of one rule of conduct."""

    rule: str
    level: Level
    outcome: Outcome
    why: str
    evidence: list[dict[str, Any]] = Field(description="The exchanges and connections that prove it.")
    title: str
    source: str


class Verdict(BaseModel):
    """The report of `notnow try --json`, which has more keys than these."""

    model_config = ConfigDict(extra="allow")
    outcome: RunOutcome
    exit: int = Field(description="The exit code of `notnow try`.")
    result: Word | None = Field(None, description="What became of the items; not there if no client has connected.")
    result_in_words: str | None = None
    verdicts: list[RuleVerdict]
    others: list[dict[str, Any]] = Field(description="The reports on servers that share no clock with these.")


class Knob(BaseModel):
    name: str
    default: Any
    kind: str
    comment: str


class ScenarioSummary(BaseModel):
    name: str
    protocol: str
    summary: str
    params: dict[str, Any]


class ScenarioList(BaseModel):
    scenarios: list[ScenarioSummary]


class ScenarioDetails(ScenarioSummary):
    """A scenario explained."""

    knobs: list[Knob]
    phases: list[dict[str, Any]]
    expects: list[str]
    sources: list[str]
    toml: str


class Checked(BaseModel):
    """What is wrong with a scenario, a sentence for each mistake."""

    valid: bool
    problems: list[dict[str, Any]]
    warnings: list[dict[str, Any]]


class ProblemDetails(BaseModel):
    """What is wrong with a call (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str = Field(description="All that is wrong, a line for each mistake, as the command line says it.")
    problems: list[dict[str, Any]] = Field(
        default_factory=list,
        description="One for each mistake: text, found, allowed, key, line, nearest, hint, where they are known.",
    )
