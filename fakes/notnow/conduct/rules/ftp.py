"""Rules of conduct for FTP clients."""

from __future__ import annotations

import re
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator

from notnow.conduct.finding import NOT_EXERCISED, Finding, broken, held, not_exercised
from notnow.conduct.rules.rule import Rule, Run, burst, plural
from notnow.journal import Connection, Exchange, Journal
from notnow.units import show, show_size

AT_ONCE = 1.0  # seconds within which a new attempt is no delay at all
STORM = 10, 60.0  # connections that may be refused, in so many seconds, before they are a storm
FLOOD = 10, 60.0  # NOOPs on a connection, likewise
TRIES = 3, 600.0  # passwords that may be refused: vsftpd takes 3 in a session, fail2ban 5 in ten minutes
WORTH = 65_536  # bytes that are worth being resumed: less is sent again sooner than asked about
FOR_EVER = 3600.0  # seconds of silence that no client waits for which has a time-out

_TRANSFERS = frozenset({"retr", "stor", "appe", "stou", "list", "nlst", "mlsd"})
_ANNOUNCES = frozenset({"pasv", "epsv", "port", "eprt"})
_LOGIN = frozenset({"USER", "PASS", "ACCT"})
_LOOKS = frozenset({"size", "mlst", "mlsd", "list", "nlst", "stat"})  # that show how much of a file is there
_IN_THE_FILES = _TRANSFERS | {
    "cwd",
    "cdup",
    "pwd",
    "mkd",
    "rmd",
    "dele",
    "rnfr",
    "rnto",
    "size",
    "mdtm",
    "mfmt",
    "mlst",
}
_PURPOSE = (_IN_THE_FILES - {"cwd", "cdup", "pwd"}) | {"site"}  # what a client comes for
# What was refused -> what must not be said before it has been accepted.
_BEFORE = {
    "user": frozenset({"pass"}),
    "pass": _IN_THE_FILES | _ANNOUNCES,
    "data": _TRANSFERS,
    "rnfr": frozenset({"rnto"}),
}
_FULL = re.compile(r"too many|\bmaximum\b|accept more than|already (connected|logged in)", re.IGNORECASE)
_OWN = re.compile(r"\b(your|this|the same) (internet address|ip|host|user|account)\b", re.IGNORECASE)

Who = tuple[Journal, str]


def _who(exchange: Exchange) -> Who:
    """A client of a server. Clients are told apart by their addresses."""
    return exchange.connection.journal, exchange.connection.client


def _verb(line: str) -> str:
    return re.sub(r"^[^A-Za-z]+", "", line).partition(" ")[0].upper()  # an urgent ABOR has Telnet's signs before it


# ---- the end of a control connection -------------------------------------------------------------


def _last_word(exchanges: list[Exchange]) -> Exchange | None:
    """The exchange with which a rule has closed the connection."""
    return next((x for x in reversed(exchanges) if x.closed and x.rule), None)


def _said_after(connection: Connection) -> list[str]:
    """The verbs that came when the fake had closed, but for those that take leave."""
    verbs = [_verb(line) for line in connection.after.splitlines()]
    return [verb for verb in verbs if verb not in ("", "QUIT", "ABOR")]


def _notices_the_close(run: Run) -> Finding:
    closed = learned = 0
    for connection, exchanges in run.by_connection.items():
        end = _last_word(exchanges)
        if end is None or end.moment == "connect":
            continue
        closed += 1
        said = _said_after(connection)
        if not said:
            continue
        if len(said) > 1:  # the first may have been on its way; and by what becomes of it one learns of the close
            return broken(f"{', '.join(said[:5])} came when the connection was closed", end, connection)
        learned += 1
    if not closed:
        return NOT_EXERCISED
    how = f"; {learned} of them it noticed by its next command" if learned else ""
    return held(f"{plural(closed, 'connection')} closed under it{how}")


def _does_not_log_in_where_refused(run: Run) -> Finding:
    refused = [x for x in run.refusals if x.moment == "connect" and not x.unanswered]
    for greeting in refused:
        for verb in _said_after(greeting.connection):
            if verb in _LOGIN:
                return broken(f"{verb} came after {greeting.code}", greeting, greeting.connection)
        for later in _commands(run.by_connection[greeting.connection]):
            if _verb(later.request) in _LOGIN:
                return broken(f"{_verb(later.request)} came after {greeting.code}", greeting, later)
    return held(plural(len(refused), "refused greeting")) if refused else NOT_EXERCISED


def _commands(exchanges: Iterable[Exchange]) -> Iterator[Exchange]:
    """What the client has said, without what was said unasked or in the middle of a transfer."""
    return (x for x in exchanges if x.request and x.moment != "transfer")


# ---- replies -------------------------------------------------------------------------------------


def _out_of_order(exchange: Exchange) -> bool:
    """True where the fake, behaving, had to refuse a command because one that has to come before it was missing.

    What only looks into the server's abilities (FEAT, OPTS) may be tried before the login.
    """
    if exchange.fault is not None or exchange.moment not in _IN_THE_FILES | _ANNOUNCES | {"type"}:
        return False
    facts = exchange.facts or {}
    return exchange.code in (503, 530) or (exchange.code == 425 and facts.get("mode", "") is None)


def _reads_to_the_last_line(run: Run) -> Finding:
    """Who takes the first line of a reply for all of it is a line behind from then on: it takes the next line for the
    answer to its next command, and goes on where it was told to stop.
    """
    long = 0
    for exchanges in run.by_connection.values():
        lines: deque[str] = deque()  # that such a client would not have read yet
        first: Exchange | None = None  # the reply of several lines
        before: Exchange | None = None
        mistaken = False  # about the last reply
        for x in exchanges:
            if mistaken and first is not None and before is not None and _out_of_order(x):
                why = f"{_verb(x.request)} came as if a line of {_first_line(first)!r} had been the reply to {_verb(before.request)}"
                return broken(why, first, before, x)
            said = (x.reply or "").split("\n")
            if any(line[3:4] == "-" and line[:3].isdecimal() for line in said):
                long += 1
                first = first or x
            lines.extend(said)
            taken = lines.popleft()
            if taken[:1] == "1" and lines:
                taken = lines.popleft()
            codes = x.codes
            mistaken = taken[:1] in ("1", "2") and bool(codes) and codes[-1] >= 300
            before = x
    return held(f"{plural(long, 'reply', 'replies')} of several lines") if long else NOT_EXERCISED


def _first_line(exchange: Exchange) -> str:
    return (exchange.reply or "").partition("\n")[0]


def _goes_by_the_first_digit(run: Run) -> Finding:
    refusals = 0
    for exchanges in run.by_connection.values():
        refused: dict[str, Exchange] = {}
        for x in exchanges:
            if not x.request or x.moment == "transfer":
                continue
            for what, refusal in refused.items():
                if x.moment in _BEFORE[what]:
                    why = f"{_verb(x.request)} came although {_verb(refusal.request)} had been refused"
                    return broken(why, refusal, x)
            kind = "data" if x.moment in _ANNOUNCES else x.moment
            if kind in _BEFORE:
                refused.pop(kind, None)
                if any(code >= 400 for code in x.codes):
                    refusals += 1
                    refused[kind] = x
    return held(f"{refusals} times it was refused what something else needs") if refusals else NOT_EXERCISED


# ---- coming back ---------------------------------------------------------------------------------


def _starts_over(run: Run) -> Finding:
    refused: set[Who] = set()
    again: set[Connection] = set()  # connections of those who had been refused
    for x in run.exchanges:
        if x.moment == "connect" and _who(x) in refused:
            again.add(x.connection)
        if x.connection in again and _out_of_order(x):
            return broken(f"{_verb(x.request)} came on a new connection as if it were the old one", x)
        if x.rule and x.refused and x.closed:
            refused.add(_who(x))
    begun = sum(1 for connection in again if any(_commands(run.by_connection[connection])))
    return held(f"it began anew on {plural(begun, 'connection')}") if begun else NOT_EXERCISED


def _sets_up_again(run: Run) -> Finding:
    types: dict[Connection, str] = {}
    cut: dict[tuple[Who, str], tuple[Exchange, str, str]] = {}  # a command that did not come through: its path and type
    repeated = 0
    for x in run.exchanges:
        if x.moment == "type" and x.code == 200:
            types[x.connection] = "A" if x.request.upper().split()[1:2] == ["A"] else "I"
        if not x.facts or "direction" not in x.facts or x.moment == "stou":
            continue
        key, path, of_type = (_who(x), x.request.strip()), str(x.facts["path"]), types.get(x.connection, "A")
        before, its_path, its_type = cut.pop(key, (x, path, of_type))
        if before.connection is not x.connection:
            repeated += 1
            if path != its_path:
                return broken(f"{key[1]!r} was about {its_path}, and now it is about {path}", before, x)
            if of_type != its_type and x.facts["direction"] != "listing":
                return broken(f"{key[1]!r} was of type {its_type}, and now it is of type {of_type}", before, x)
        if not x.facts["whole"]:
            cut[key] = x, path, of_type
    return held(f"{plural(repeated, 'transfer')} set up again as before") if repeated else NOT_EXERCISED


def _full(run: Run) -> list[tuple[Exchange, int]]:
    """Where there were too many connections already, and how many others of the client's own there were."""
    live: dict[Who, int] = defaultdict(int)
    events: list[tuple[int, int, Exchange | Who]] = []
    for connection in run.connections:
        who = connection.journal, connection.client
        events.append((connection.index, 1, who))
        ends = [i for i in (connection.left_index, connection.closed_index) if i is not None]
        if ends:
            events.append((min(ends), -1, who))
    events += [
        (x.index, 0, x)
        for x in run.refusals
        if x.moment in ("connect", "user", "pass") and _FULL.search(x.reply or "") is not None
    ]
    found = []
    for _, step, what in sorted(events, key=lambda event: event[0]):
        if isinstance(what, Exchange):
            found.append((what, live[_who(what)] - 1))
        else:
            live[what] += step
    return found


def _uses_fewer_connections(run: Run) -> Finding:
    told: dict[Who, tuple[Exchange, int]] = {}  # how many are enough, and where it was told so
    for refusal, others in _full(run):
        if others < 1 or not _OWN.search(refusal.reply or ""):
            continue  # it is others who hold the places
        before = told.get(_who(refusal))
        if before is not None and others >= before[1]:
            why = f"it asked for one more when it had {others}, and had been told that {before[1]} are enough"
            return broken(why, before[0], refusal)
        told[_who(refusal)] = refusal, others
    if not told:
        return NOT_EXERCISED
    return held(f"with {min(others for _, others in told.values())} open it asked for no more")


def _waits(run: Run) -> Finding:
    own = {id(x) for x, others in _full(run) if others > 0}
    found = [
        retry
        for retry in run.retries
        if retry.refusal.moment in ("connect", "user", "pass")
        and retry.attempt.moment == "connect"
        and id(retry.refusal) not in own  # a place that it gives up is there at once
    ]
    if not found:
        return NOT_EXERCISED
    soonest = min(found, key=lambda retry: retry.delay)
    if soonest.delay < AT_ONCE:
        return broken(f"it came back {show(soonest.delay)} after it was refused", soonest.refusal, soonest.attempt)
    return held(f"it waited at least {show(soonest.delay)}")


def _by(exchanges: Iterable[Exchange]) -> dict[Who, list[Exchange]]:
    sorted_out: dict[Who, list[Exchange]] = {}
    for exchange in exchanges:
        sorted_out.setdefault(_who(exchange), []).append(exchange)
    return sorted_out


def _is_no_storm(run: Run) -> Finding:
    refused = _by(x for x in run.refusals if x.moment == "connect")
    for exchanges in refused.values():
        if storm := burst(exchanges, *STORM):
            why = f"{len(storm)} connections were refused within {show(storm[-1].at - storm[0].at)}, and still it came"
            return broken(why, *storm)
    most = max(map(len, refused.values()), default=0)
    return held(f"{plural(most, 'connection')} refused") if most > 1 else NOT_EXERCISED


def _comes_back_when_needed(run: Run) -> Finding:
    idled: dict[Who, Exchange] = {}
    returned = 0
    for exchanges in run.by_connection.values():
        who = _who(exchanges[0])
        before, end = idled.get(who), _last_word(exchanges)
        idle = end if end is not None and end.moment == "idle" else None
        if before is not None and before.index < exchanges[0].index:
            returned += 1
            if idle is not None and not any(x.moment in _PURPOSE for x in exchanges):
                return broken("it came back, did nothing, and was sent away again", before, idle)
        if idle is not None:
            idled[who] = idle
    return held(f"it came back {returned} times, for something") if returned else NOT_EXERCISED


def _lets_the_connection_rest(run: Run) -> Finding:
    said = 0
    for exchanges in run.by_connection.values():
        noops = [x for x in exchanges if x.moment == "noop"]
        said += len(noops)
        if flood := burst(noops, *FLOOD):
            return broken(f"{len(flood)} NOOPs within {show(flood[-1].at - flood[0].at)}", *flood)
    return held(plural(said, "NOOP")) if said else NOT_EXERCISED


def _spares_the_password(run: Run) -> Finding:
    names: dict[Connection, str] = {}
    refused: dict[tuple[Who, str], list[Exchange]] = {}
    for x in run.exchanges:
        if x.moment == "user":
            names[x.connection] = x.request.partition(" ")[2].strip()
        elif x.moment == "pass" and 530 in x.codes:
            refused.setdefault((_who(x), names.get(x.connection, "")), []).append(x)
    for (_, name), exchanges in refused.items():
        if burnt := burst(exchanges, *TRIES):
            why = f"the password of {name or 'nobody'} was given {len(burnt)} times within {show(burnt[-1].at - burnt[0].at)}"
            return broken(why, *burnt)
    most = max(map(len, refused.values()), default=0)
    return held(f"{plural(most, 'try', 'tries')} at most for a user") if most else NOT_EXERCISED


# ---- transfers that were cut ---------------------------------------------------------------------


def _named(request: str) -> str:
    """The last part of the path that a command names."""
    return request.strip().partition(" ")[2].rstrip("/").rpartition("/")[2]


def _cut_by_the_fake(run: Run) -> set[int]:
    """The transfers (by `id`) that the fake has cut, or that were under way when it closed."""
    cut = set()
    for connection, exchanges in run.by_connection.items():
        last: Exchange | None = None
        for x in exchanges:
            if x.facts and "direction" in x.facts:
                last = x
            if last is not None and x.rule and (x is last or x.moment == "transfer"):
                cut.add(id(last))
        if last is not None and connection.ended_by == "fake":
            cut.add(id(last))
    return cut


def _resumes(run: Run) -> Finding:
    cut: dict[tuple[Who, str, str], tuple[Exchange, int]] = {}
    gone: set[tuple[Who, str]] = set()  # names of which it was told since that nothing is there
    resumed, by_the_fake = 0, _cut_by_the_fake(run)
    for x in run.exchanges:
        who, facts = _who(x), x.facts or {}
        if x.moment in ("size", "mlst") and (x.code == 550 or (x.reply or "").startswith("213 0")):
            gone.add((who, _named(x.request)))
        if facts.get("direction") not in ("upload", "download") or x.moment == "stou":
            continue
        key = who, str(facts["direction"]), str(facts["path"])
        before, there = cut.pop(key, (None, 0))
        appends = x.moment == "appe"
        name = who, key[2].rpartition("/")[2]
        if before is not None and name not in gone:
            if not facts["offset"] and not appends:
                why = f"{show_size(there)} of {key[2]} had come through, and it began again from 0"
                return broken(why, before, x)
            resumed += 1
        gone.discard(name)
        there = (there if appends else facts["offset"]) + facts["bytes"]
        if not facts["whole"] and id(x) in by_the_fake and there >= WORTH:
            cut[key] = x, there
    return held(f"it went on {resumed} times from where it was cut") if resumed else NOT_EXERCISED


def _mends_what_was_cut(run: Run) -> Finding:
    cut: dict[tuple[Who, str], tuple[Exchange, int]] = {}  # the pieces that are there, and how much they are
    looked: dict[Who, int] = {}  # when it last asked what is there
    mended, by_the_fake = 0, _cut_by_the_fake(run)
    for x in run.exchanges:
        who, facts = _who(x), x.facts or {}
        if x.moment in _LOOKS and x.code is not None and x.code < 500:
            looked[who] = x.index
        if facts.get("direction") != "upload":
            continue
        key = who, str(facts["path"])
        appends = x.moment == "appe"
        if not (facts["bytes"] or facts["whole"]) and (key not in cut or facts["offset"] <= cut[key][1]):
            continue  # it never began
        before, there = cut.pop(key, (None, 0))
        if before is not None:
            if appends and looked.get(who, 0) < before.index:
                why = f"{show_size(facts['bytes'])} were put behind a piece of {key[1]}, and it had not asked how much that is"
                return broken(why, before, x)
            if not appends and facts["offset"] > there:
                return broken(f"{there} bytes of {key[1]} had come, and it went on at {facts['offset']}", before, x)
            mended += bool(facts["whole"])
        if not facts["whole"] and id(x) in by_the_fake:
            cut[key] = x, (there if appends else facts["offset"]) + facts["bytes"]
    left = f"{plural(len(cut), 'piece')} left; what it has told its user is not seen from here"
    if mended:
        return held(f"{mended} mended" + (f", {left}" if cut else ""))
    return not_exercised(left) if cut else NOT_EXERCISED


def _renames_what_is_whole(run: Run) -> Finding:
    cut: dict[tuple[Who, str], Exchange] = {}  # by the name that is left when the directory is taken away
    renamed, by_the_fake = 0, _cut_by_the_fake(run)
    for x in run.exchanges:
        facts = x.facts or {}
        if facts.get("direction") == "upload" and (facts["bytes"] or facts["whole"]):
            name = _who(x), str(facts["path"]).rpartition("/")[2]
            cut.pop(name, None)
            if not facts["whole"] and id(x) in by_the_fake:
                cut[name] = x
        elif x.moment in ("rnfr", "dele") and x.code is not None and x.code < 400:
            piece = cut.pop((_who(x), _named(x.request)), None)
            if x.moment == "rnfr" and piece is not None:
                return broken(f"{_named(x.request)} got another name, and only a piece of it had come", piece, x)
            renamed += x.moment == "rnfr"
    return held(f"{plural(renamed, 'file')} renamed") if renamed else NOT_EXERCISED


# ---- silence -------------------------------------------------------------------------------------


def _times_out(run: Run) -> Finding:
    left: list[float] = []
    for connection, exchanges in run.by_connection.items():
        told = [x for x in exchanges[-2:] if x.fault != "stopped"]
        last = told[-1] if told else None
        if last is None or last.fault is None or not last.unanswered or last.closed:
            continue
        until = connection.closed_at if connection.closed_at is not None else connection.journal.clock.now()
        if connection.ended_by == "client":
            left.append(until - last.at)
        elif until - last.at >= FOR_EVER:
            return broken(f"it has waited {show(until - last.at)} for a reply", last, connection)
    return held(f"it left after {show(max(left))}") if left else NOT_EXERCISED


RULES: tuple[Rule, ...] = (
    Rule(
        id="ftp.notice-close",
        title="The client notices that the control connection is closed, by its next command at the latest.",
        level="should",
        source="RFC 1123 §4.1.2.11",
        why="What is said there is lost, and a reset may take the last reply with it; who waits for an answer hangs.",
        observed="commands other than QUIT and ABOR that come when the fake has closed; one may have been on its way, and lets the client notice",
        example="C: PASV\nS: 421 Service not available, closing control connection.\nC: PORT 127,0,0,1,8,1\nC: STOR a.txt",
        judge=_notices_the_close,
    ),
    Rule(
        id="ftp.start-over",
        title="After a refusal that ended its connection the client begins the whole sequence again.",
        level="advice",
        source="RFC 959 §4.2.1 (4yz: back to the beginning of the command sequence)",
        why="A new connection knows nothing of the old one: not who logged in, nor where data are to go.",
        observed="commands on the new connection that lack what has to come before them: 503, 530, or 425 for a transfer without PASV or PORT",
        example="S: 421 Timeout.\n(a new connection)\nC: RETR a.txt\nS: 530 Log in with USER and PASS first.",
        judge=_starts_over,
    ),
    Rule(
        id="ftp.set-up-again",
        title="A transfer that is repeated on a new connection has the type and the directory that it had before.",
        level="advice",
        source="RFC 959 §4.2.1 (4yz), §3.1.1 and §5.1 (the type is ASCII until TYPE says otherwise)",
        why="Without TYPE I line ends are translated and the file is spoilt; without CWD it lands in another directory.",
        observed="the same command as one that did not come through, on another connection, with another path or type",
        example="C: TYPE I, CWD /in, STOR a.bin\nS: 421 Kicked by Administrator\n(a new connection)\nC: STOR a.bin, in / and of type A",
        judge=_sets_up_again,
    ),
    Rule(
        id="ftp.multi-line-replies",
        title="The client reads a reply of several lines to its last one.",
        level="must",
        source="RFC 1123 §4.1.2.11; RFC 959 §4.2",
        why="Who stops at the first line takes the second for the answer to its next command, and is a line behind from then on.",
        observed="a client that goes on where it was told to stop, and whose next unread line would have told it to go on",
        example="S: 220-Welcome\nS: 220 to this server\nC: USER ann\nS: 331 Password?\nC: TYPE I",
        judge=_reads_to_the_last_line,
    ),
    Rule(
        id="ftp.first-digit",
        title="The client goes by the first digit of a reply: after a 4yz or 5yz it does not go on as if it had been let.",
        level="should",
        source="RFC 1123 §4.1.2.11; RFC 959 §4.2.1",
        why="Codes differ from server to server, and what they mean is in the first digit; what follows a refused step fails as well, or does harm.",
        observed="PASS after a refused USER, commands about files after a refused PASS, a transfer after a refused PASV or PORT, RNTO after a refused RNFR",
        example="C: RNFR a\nS: 450 Not now\nC: RNTO b",
        judge=_goes_by_the_first_digit,
    ),
    Rule(
        id="ftp.refused-greeting",
        title="Where the greeting is a refusal the client does not log in.",
        level="advice",
        source="RFC 959 §5.4 (120, 220 or 421 come first); good practice",
        why="Nobody is there to let it in, and in the clear its password has been told for nothing.",
        observed="USER, PASS or ACCT after a greeting that refuses",
        example="S: 421 Too many connections (8) from this IP\nC: USER ann",
        judge=_does_not_log_in_where_refused,
    ),
    Rule(
        id="ftp.wait-before-reconnect",
        title="Where it was refused at the greeting or at the login the client waits before it connects again.",
        level="advice",
        source="good practice; RFC 959 §4.2.1 leaves the time open",
        why="Who comes back at once, again and again, keeps a server overloaded that has asked for time, and is locked out.",
        observed="the time from such a refusal to the client's next connection; less than a second is none. Who makes room itself need not wait",
        example="S: 421 Too many users are connected, please try again later.   (0 s)\nC: connects again   (3 ms)",
        judge=_waits,
    ),
    Rule(
        id="ftp.no-retry-storm",
        title="The client does not keep storming a server that turns its connections away.",
        level="advice",
        source="good practice",
        why="Each connection that is turned away costs the server work that it has said it has no room for.",
        observed=f"refused connections of one client; more than {STORM[0]} in {show(STORM[1])} are a storm",
        example="S: 421 System busy, try again later   (twelve times in three seconds)",
        judge=_is_no_storm,
    ),
    Rule(
        id="ftp.fewer-connections",
        title="Told that it has too many connections, the client makes do with those that it has.",
        level="advice",
        source="good practice; vsftpd max_per_ip, Pure-FTPd MaxClientsPerIP, ProFTPD MaxClientsPerHost",
        why="One more is refused as well for as long as the others last; servers ban who keeps asking.",
        observed="a further refusal for too many connections from its address, or of its user, while as many others are open as at the one before",
        example="S: 421 There are too many connections from your internet address.   (two are open)\nC: opens a third one again, is refused again",
        judge=_uses_fewer_connections,
    ),
    Rule(
        id="ftp.reconnect-lazily",
        title="Sent away for being idle, the client comes back when it has something to do.",
        level="advice",
        source="good practice",
        why="A connection that is made only to be there takes a place from somebody with work to do, and idles out again.",
        observed="connections that follow an idle time-out, do nothing, and meet the next one",
        example="S: 421 Timeout.\nC: connects, USER, PASS\nS: 421 Timeout.",
        judge=_comes_back_when_needed,
    ),
    Rule(
        id="ftp.resume",
        title="A big transfer that was cut is resumed where it was cut.",
        level="advice",
        source="RFC 3659 §5 (REST); good practice",
        why="Whoever begins again from 0 under a server that cuts after so many bytes never gets to the end.",
        observed=f"the offset at which a file is asked for again of which {show_size(WORTH)} or more had passed; none is right where SIZE has said that nothing is there",
        example="C: RETR big.bin\nS: 426 Connection closed   (1 MB has passed)\nC: RETR big.bin, without REST",
        judge=_resumes,
    ),
    Rule(
        id="ftp.no-noop-flood",
        title="The client does not keep its session alive by a flood of NOOPs.",
        level="advice",
        source="good practice; Pure-FTPd ends sessions that say nothing else",
        why="One in a while is enough to keep a session, if it has to be kept at all.",
        observed=f"NOOPs on a connection; more than {FLOOD[0]} in {show(FLOOD[1])} are a flood",
        example="C: NOOP   (once a second)",
        judge=_lets_the_connection_rest,
    ),
    Rule(
        id="ftp.spare-the-password",
        title="After a 530 the client does not give the same user's password again and again.",
        level="advice",
        source="good practice; ProFTPD says 530 to a good password where too many are logged in",
        why="A 530 may be about the number of clients, but to who counts failures it is a wrong password, and the account is locked.",
        observed=f"PASS answered by 530, for each user; more than {TRIES[0]} in {show(TRIES[1])} are too many",
        example="C: PASS ********\nS: 530 Sorry, the maximum number of clients (3) for this user are already connected.   (five times in a minute)",
        judge=_spares_the_password,
    ),
    Rule(
        id="ftp.mend-cut-upload",
        title="A piece that a cut upload has left is replaced or completed, with no gap and nothing doubled.",
        level="advice",
        source="RFC 959 §4.1.3 (STOR, APPE, REST); RFC 3659 §5; good practice",
        why="How much has arrived only the server knows: who guesses puts bytes twice into the file, or leaves some out.",
        observed="APPE to a piece whose size the client has not asked since, or REST beyond its end. That a piece is left proves nothing: what the client reports is not seen",
        example="C: STOR a.bin\nS: 426 Transfer aborted; 500 bytes transmitted.\nC: APPE a.bin, with all of it",
        judge=_mends_what_was_cut,
    ),
    Rule(
        id="ftp.rename-whole-files",
        title="The client does not take a cut upload for done and give the piece its final name.",
        level="advice",
        source="good practice; RFC 959 §4.2.2 (426: transfer aborted)",
        why="Uploads are made under another name so that nobody sees a piece: renamed, it passes for the file.",
        observed="RNFR that is accepted for a file of which only a piece has come",
        example="C: STOR a.bin.part\nS: 426 Transfer aborted; 500 bytes transmitted.\nC: RNFR a.bin.part, RNTO a.bin",
        judge=_renames_what_is_whole,
    ),
    Rule(
        id="ftp.time-out",
        title="The client does not wait for ever for a reply that does not come.",
        level="should",
        source="RFC 1123 §4.1.3.2",
        why="A job that hangs is noticed by nobody; a time-out is an error that can be handled.",
        observed=f"how long the client stays where the fake says nothing; {show(FOR_EVER)} is for ever",
        example="C: USER ann   (no reply; two hours later it still waits)",
        judge=_times_out,
    ),
)
