"""The calls of the control API, one function each. They are made in threads of their own, and may wait for the fakes."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
from collections.abc import Mapping
from itertools import islice
from pathlib import Path

from notnow import protocols, true_time, words
from notnow.conduct.reporting import REST
from notnow.control.calls import MEDIA_TYPES, Content, call
from notnow.control.fleet import Fleet, Member
from notnow.control.models import (
    Advance,
    Clocks,
    Empty,
    File,
    FileList,
    JournalPage,
    JournalQuery,
    Kicked,
    Mail,
    MessageList,
    MessagesQuery,
    NewServer,
    Played,
    RuleList,
    RuleState,
    Server,
    ServerList,
    Why,
    Whys,
)
from notnow.control.problems import RefusedError
from notnow.errors import Problem, ScenarioError, unknown
from notnow.journal import Entry, Exchange, Journal
from notnow.journal.transport import pack
from notnow.language import catalogue
from notnow.language.loading import loads
from notnow.language.scenario import Scenario
from notnow.servers.base.fake import Fake
from notnow.servers.ftp import FakeFTP
from notnow.servers.listening import try_line
from notnow.servers.smtp import FakeSMTP
from notnow.servers.smtp.message import Message

# ---- servers -------------------------------------------------------------------------------------


@call("POST", "/v1/servers", status=201, errors=(409, 503))
def start_server(fleet: Fleet, body: NewServer) -> Server:
    """Start a fake: a server a test, on a port of its own. When the answer comes, clients can connect.

    Without `scenario` or `toml` it is a healthy SMTP server. It stops after `ttl`, or with DELETE. Servers of one `group`
    share a clock, and are judged together, as a client needs that falls back from one to the other.

    Where `serve --shared` runs, a server counts for itself unless it is `shared`: then it has to have a `name`, and is one service
    with the servers of this name on all replicas, which each have to be started, with the same scenario.
    """
    member = fleet.start(
        _scenario(fleet, body),
        name=body.name,
        group=body.group,
        speed=body.speed,
        ttl=body.ttl,
        host=body.host,
        port=body.port,
        tls=body.tls,
        users=body.users,
        files=body.files,
        seed=body.seed,
        journal_limit=body.journal_limit,
        shared=body.shared,
    )
    return describe(member)


@call("GET", "/v1/servers")
def list_servers(fleet: Fleet) -> ServerList:
    """The servers that run, in the order in which they were started."""
    return ServerList(servers=[describe(member) for member in fleet.members()])


@call("GET", "/v1/servers/{name}", errors=(404,))
def get_server(fleet: Fleet, name: str) -> Server:
    """Where a server listens, what it plays, and in which phase."""
    return describe(fleet.get(name))


@call("DELETE", "/v1/servers/{name}", status=204, errors=(404,))
def stop_server(fleet: Fleet, name: str) -> None:
    """Stop a server. Its clients get the goodbye of a server that shuts down; its journal is gone."""
    fleet.stop(name)


@call("PUT", "/v1/servers/{name}/scenario", errors=(404,))
def play_scenario(fleet: Fleet, name: str, body: Played) -> Server:
    """Play another scenario on a running server; after `ttl` the one from before comes back.

    Phases, counts and chance start anew. Live connections stay; the journal is marked, not erased.
    """
    return describe(fleet.play(name, _scenario(fleet, body, fleet.get(name)), body.ttl))


@call("POST", "/v1/servers/{name}/next-phase", errors=(404,))
def next_phase(fleet: Fleet, name: str, body: Empty) -> Server:  # noqa: ARG001
    """Go on to the next phase of the scenario by hand. The last one stays, unless the scenario repeats."""
    member = fleet.get(name)
    member.fake.next_phase()
    return describe(member)


@call("POST", "/v1/servers/{name}/reset", errors=(404,))
def reset_server(fleet: Fleet, name: str, body: Empty) -> Server:  # noqa: ARG001
    """Forget the past: the journal, and everything that clients have stored. The scenario goes on."""
    member = fleet.get(name)
    member.fake.reset()
    return describe(member)


@call("POST", "/v1/servers/{name}/kick", errors=(404,))
def kick_clients(fleet: Fleet, name: str, body: Empty) -> Kicked:  # noqa: ARG001
    """Cut off every client that is connected, with a 421 or, over HTTP/2, a GOAWAY. They may connect again."""
    return Kicked(kicked=fleet.get(name).fake.kick())


@call("POST", "/v1/clock/advance", errors=(404,))
def advance_clock(fleet: Fleet, body: Advance) -> Clocks:
    """Advance scenario time, on all clocks or on those of some servers.

    Everything that is due on the way is carried out, in order, before the answer comes.
    """
    members = fleet.advance(body.by, body.servers)
    return Clocks(now={member.fake.name: round(member.clock.now(), 6) for member in members})


def describe(member: Member) -> Server:
    """A server as the API shows it."""
    fake, journal = member.fake, member.fake.journal
    speaks_tls = fake.tls != "none"
    return Server(
        name=fake.name,
        protocol=fake.protocol,
        scenario=fake.scenario.name,
        knobs=dict(fake.scenario.knobs),
        phase=fake.phase,
        host=fake.host,
        port=fake.port,
        url=fake.url,
        tls=fake.tls,
        ca_pem=Path(fake.ca_file).read_text("ascii") if speaks_tls else None,
        ca_file=fake.ca_file if speaks_tls else None,
        group=member.group,
        shared=member.service,
        speed=member.clock.speed,
        now=round(member.clock.now(), 6),
        seed=fake.seed,
        connections=journal.count("connect"),
        live=sum(1 for c in journal.connections if c.closed_at is None),
        exchanges=len(journal),
        dropped=journal.dropped,
        stops_in=_left(member.stops_at),
        returns_in=_left(member.returns_at),
        try_line=try_line(fake),
    )


def _left(when: float | None) -> float | None:
    return None if when is None else round(max(0.0, when - true_time.monotonic()), 3)


def _scenario(fleet: Fleet, asked: Played, running: Member | None = None) -> Scenario:
    """The scenario that is asked for. Raises ScenarioError."""
    if asked.scenario is not None and asked.toml is not None:
        raise ScenarioError([Problem("scenario and toml are both given", allowed="one of them")])
    if asked.toml is not None:
        return loads(asked.toml, name=running.fake.name if running else "scenario", knobs=asked.knobs)
    if asked.scenario is None and running is not None:
        raise ScenarioError([Problem("there is no scenario", allowed="scenario, a name, or toml, a text")])
    found = catalogue.scenario(asked.scenario or "smtp/healthy", search_paths=fleet.search_paths)
    return found.with_knobs(**asked.knobs)


# ---- what happened -------------------------------------------------------------------------------


@call("GET", "/v1/servers/{name}/journal", errors=(404,))
def read_journal(fleet: Fleet, name: str, query: JournalQuery) -> JournalPage:
    """What happened, entry by entry: exchanges, the ends of connections, phases. Filtered, and page by page."""
    journal = fleet.get(name).fake.journal
    _check_filters(journal, query)
    found = (entry for entry in journal.entries(query.after, backwards=query.last) if _passes(entry, query))
    page = [entry.as_dict() for entry in islice(found, query.limit)]
    more = not query.last and next(found, None) is not None
    return JournalPage(
        entries=page[::-1] if query.last else page,
        next=page[-1]["index"] if more else None,
        dropped=journal.dropped,
    )


@call("GET", "/v1/servers/{name}/journal.jsonl", errors=(404,), media=("jsonl",), long=True)
def download_journal(fleet: Fleet, name: str) -> Content:
    """The whole journal as JSON Lines, to keep."""
    import io

    text = io.StringIO()
    fleet.get(name).fake.journal.export(text)
    return Content(
        MEDIA_TYPES["jsonl"], text.getvalue(), {"content-disposition": f'attachment; filename="{name}.jsonl"'}
    )


@call("GET", "/v1/servers/{name}/snapshot", errors=(404,), media=("state",), long=True)
def take_snapshot(fleet: Fleet, name: str, headers: Mapping[str, str]) -> Content:
    """The journal without a loss, and the scenario: what `notnow.connect` judges by. With an ETag.

    Its form is that of this version of notnow. The other calls are for everybody else.
    """
    fake = fleet.get(name).fake
    with contextlib.suppress(TimeoutError):  # clients in the background may never be idle
        fake.settle(REST)
    scenario = {"name": fake.scenario.name, "toml": fake.scenario.text, "knobs": dict(fake.scenario.knobs)}
    text = "".join(['{"scenario": ', json.dumps(scenario), ', "journal": ', *pack(fake.journal), "}"])
    etag = f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'
    if headers.get("if-none-match") == etag:
        return Content(MEDIA_TYPES["state"], "", {"etag": etag}, status=304)
    return Content(MEDIA_TYPES["state"], text, {"etag": etag})


EVENTS = ("exchange", "closed", "play", "phase", "forward", "initial")  # the kinds of entries


def _check_filters(journal: Journal, query: JournalQuery) -> None:
    """Raises RefusedError for a word that no entry can have: a misspelt filter would find nothing, and look like an answer."""
    protocol = protocols.get(journal.protocol)
    moments = (*protocol.moments, *protocol.also_counted)
    mistakes = [unknown(f"moment of {journal.protocol}", word, moments) for word in query.moment if word not in moments]
    mistakes += [unknown("kind of entry", word, EVENTS) for word in query.event if word not in EVENTS]
    if mistakes:
        raise RefusedError(422, "\n".join(map(str, mistakes)), mistakes)


def _passes(entry: Entry, query: JournalQuery) -> bool:
    if query.event and entry.as_dict()["event"] not in query.event:
        return False
    only_exchanges = query.moment or query.connection or query.code or query.rule or query.refused is not None
    if not only_exchanges:
        return True
    if not isinstance(entry, Exchange):
        return False
    return (
        (not query.moment or entry.moment in query.moment)
        and query.connection in (None, entry.connection.number)
        and (query.code is None or query.code in entry.codes)
        and query.rule in (None, entry.rule)
        and query.refused in (None, entry.refused)
    )


@call("GET", "/v1/servers/{name}/exchanges/{index}/why", errors=(404, 422))
def explain_exchange(fleet: Fleet, name: str, index: int) -> Whys:
    """Why each rule that looks at this moment fired at an exchange, or the first condition that did not hold.

    `index` is that of the journal's entry. Rules are in order; none means that no rule looks at this moment.
    """
    fake = fleet.get(name).fake
    exchange = next((x for x in fake.journal.exchanges if x.index == index), None)
    if exchange is None:
        raise RefusedError(
            404, f"there is no exchange {index} in the journal of {name}; allowed: the `index` of an entry"
        )
    try:
        found = fake.explain(exchange)
    except ValueError as error:
        raise RefusedError(422, str(error)) from None
    return Whys(rules=[Why(rule=one.rule, fired=one.fired, why=one.why) for one in found])


@call("GET", "/v1/servers/{name}/rules", errors=(404,))
def list_rules(fleet: Fleet, name: str) -> RuleList:
    """The rules of the scenario, how often each has fired since the last play, and how often it still can."""
    return RuleList(rules=rule_states(fleet.get(name).fake))


def rule_states(fake: Fake) -> list[RuleState]:
    """The rules of the scenario that a fake plays, in order."""
    fired = fake.fired
    found = []
    for i, phase in enumerate(words.phases(fake.scenario)):
        for j, rule in enumerate(phase.rules):
            path = f"phase[{i}].rule[{j}]"
            counts = fired.get(path)
            found.append(
                RuleState(
                    rule=path,
                    phase=phase.name,
                    when=rule.when,
                    does=rule.does,
                    lines=list(rule.lines),
                    fired=counts.times if counts else 0,
                    left=counts.left if counts else None,
                )
            )
    return found


@call("GET", "/v1/servers/{name}/messages", errors=(404, 422))
def list_messages(fleet: Fleet, name: str, query: MessagesQuery) -> MessageList:
    """The mail that an SMTP server has accepted, oldest first."""
    fake = fleet.get(name).fake
    if not isinstance(fake, FakeSMTP):
        raise _has_none(fake, "messages")
    messages = fake.messages
    page = messages[query.after : query.after + query.limit]
    found = [
        Mail(
            sender=m.envelope.sender,
            recipients=list(m.envelope.recipients),
            user=m.envelope.user,
            at=m.envelope.at,
            connection=m.envelope.connection,
            message_id=_header(m, "message-id"),
            subject=_header(m, "subject"),
            size=len(m.envelope.content),
            content=_encoded(m.envelope.content, query.encoding),
        )
        for m in page
    ]
    end = query.after + len(page)
    return MessageList(messages=found, next=end if end < len(messages) else None)


def _encoded(content: bytes, encoding: str) -> str:
    return base64.b64encode(content).decode() if encoding == "base64" else content.decode("utf-8", "replace")


def _header(message: Message, name: str) -> str | None:
    value = message[name]
    return None if value is None else str(value)


@call("GET", "/v1/servers/{name}/files", errors=(404, 422))
def list_files(fleet: Fleet, name: str) -> FileList:
    """The files of an FTP server, with their sizes."""
    files = _files(fleet, name).files
    partial = set(files.partial)
    return FileList(files=[File(path=path, size=n, partial=path in partial) for path, n in files.sizes().items()])


@call("GET", "/v1/servers/{name}/files/{path:path}", errors=(404, 413, 422), media=("bytes",))
def read_file(fleet: Fleet, name: str, path: str) -> Content:
    """The bytes of a file on an FTP server; of an upload under way, those that have come."""
    files = _files(fleet, name).files
    try:
        size = files.size(path)
        if size > MOST_BYTES:
            raise RefusedError(413, f"{path!r} has {size} bytes; allowed: {MOST_BYTES} at most")
        return Content(MEDIA_TYPES["bytes"], files[path])
    except (KeyError, ValueError):
        raise RefusedError(404, str(unknown("file", path, sorted(files)[:100]))) from None


MOST_BYTES = 64 * 1024 * 1024  # of a file in one answer


def _files(fleet: Fleet, name: str) -> FakeFTP:
    fake = fleet.get(name).fake
    if not isinstance(fake, FakeFTP):
        raise _has_none(fake, "files")
    return fake


def _has_none(fake: Fake, what: str) -> RefusedError:
    return RefusedError(
        422, f"{fake.name} speaks {fake.protocol} and has no {what}; allowed: a server that keeps {what}"
    )
