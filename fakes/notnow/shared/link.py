"""The connection to Redis: scripts, called by the names of operations. `redis-py` speaks the protocol."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import msgspec
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from notnow.errors import StartError
from notnow.shared.address import ALLOWED, Address

if TYPE_CHECKING:
    from redis.client import PubSub

log = logging.getLogger("notnow.shared")
OLDEST = (6, 0)
FRESH = 2  # seconds after Redis's start in which replicas that it has forgotten come back: they try five times a second
# The parts of a script: what it costs to run one grows with all functions in it, called or not, so frequent operations
# have scripts of their own.
PARTS: Mapping[str, Sequence[str]] = {
    "decide": ("service.lua", "tallies.lua", "conditions.lua", "decide.lua"),
    "release": ("service.lua", "release.lua"),
}
OTHERS = ("service.lua", "tallies.lua", "operations.lua")
Lost = redis.RedisError  # Redis is away, or in no state to answer


def words(error: Exception) -> str:
    """What Redis or redis-py has said, without the place in our script."""
    return str(error).partition(" script: ")[0] or type(error).__name__


class Misfit(Lost):
    """Redis answers, but this replica cannot be one of the service any more."""


_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder().decode


@cache
def script(parts: Sequence[str]) -> str:
    """The text of a script. Redis compiles it once, and then knows it by its SHA-1."""
    folder = files("notnow.shared")
    return "\n".join((folder / part).read_text("utf-8") for part in parts)


class Link:
    """Redis, for one server of a service. For any thread: each call takes a connection of its own from a pool."""

    def __init__(self, address: Address, server: str) -> None:
        self.address = address
        # No retries: a call that timed out may have been carried out, and would be counted twice.
        self.redis = redis.Redis.from_url(
            address.url,
            retry=Retry(NoBackoff(), 0),
            client_name="notnow",
        )
        self._others = self.redis.register_script(script(OTHERS))
        self._scripts = {name: self.redis.register_script(script(parts)) for name, parts in PARTS.items()}
        self._ahead: dict[bytes, bytes] = {}  # what will be asked, packed -> its answer
        self._keys = (address.prefix, f"{address.prefix}{server}:")
        # Nothing is said here: that replicas listen tells a newcomer of them. Channels are those of all databases.
        self._replicas = f"{address.prefix}replicas:{self.redis.connection_pool.connection_kwargs.get('db', 0)}"

    def call(self, operation: str, given: Mapping[str, Any]) -> list[Any]:
        """Have an operation carried out; its answer. Raises `Lost`."""
        packed = _pack(given)
        answer = self._ahead.pop(packed, None) if self._ahead else None
        if answer is None:
            answer = self._scripts.get(operation, self._others)(keys=self._keys, args=(operation, packed))
        found: list[Any] = _unpack(answer)
        return found

    def call_ahead(self, operation: str, each: Sequence[Mapping[str, Any]]) -> None:
        """Have an operation carried out for each of these in one go; the calls that follow have their answers then. Raises `Lost`."""
        given, digest = list(map(_pack, each)), self._scripts[operation].sha
        pipe = self.redis.pipeline(transaction=False)
        for packed in given:
            pipe.evalsha(digest, len(self._keys), *self._keys, operation, packed)
        answers = pipe.execute(raise_on_error=False)
        # What Redis has refused, it has not done: the call for it asks again, and says why.
        self._ahead = {packed: one for packed, one in zip(given, answers, strict=True) if isinstance(one, bytes)}

    def check(self) -> None:
        """Raises StartError if no Redis answers there that the script could run in."""
        where = self.address.shown
        try:
            version = str(self.redis.info("server").get("redis_version", "0"))
        except redis.AuthenticationError as error:
            allowed = "redis://USER:PASSWORD@HOST:PORT, or redis://:PASSWORD@HOST:PORT"
            raise StartError(f"shared: Redis at {where} does not let us in ({error}); allowed: {allowed}") from None
        except redis.TimeoutError:
            raise StartError(
                f"shared: no Redis answers at {where} in time; is it the right address? allowed: {ALLOWED}"
            ) from None
        except (redis.InvalidResponse, UnicodeError) as error:
            raise StartError(f"shared: what answers at {where} is no Redis ({error!r}); allowed: {ALLOWED}") from None
        except redis.ConnectionError as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise StartError(
                    f"shared: the certificate of Redis at {where} is not to be trusted ({error}); "
                    "allowed: ssl_ca_certs=FILE in the URL, with the CA that has signed it"
                ) from None
            raise StartError(
                f"shared: no Redis at {where} ({error}); start one, for example redis-server --port 6379, or correct the URL"
            ) from None
        except redis.RedisError as error:
            raise self.refusal(error) from None
        if tuple(int(part) for part in version.split(".")[:2] if part.isdecimal()) < OLDEST:
            raise StartError(
                f"shared: Redis at {where} is version {version}; allowed: {OLDEST[0]}.{OLDEST[1]} or later"
            )
        self._warn_of_eviction()

    def _warn_of_eviction(self) -> None:
        memory = self.redis.info("memory")
        policy = memory.get("maxmemory_policy", "noeviction")
        if memory.get("maxmemory") and policy != "noeviction":
            log.warning(
                "shared: Redis at %s may throw counts away when its memory is full (maxmemory-policy is %s), so that caps and "
                "quotas would be wrong; allowed: noeviction",
                self.address.shown, policy,
            )  # fmt: skip

    def refusal(self, error: redis.RedisError) -> StartError:
        """What to say to the user of a Redis that answers, and does not do what it is asked."""
        if isinstance(error, redis.exceptions.MovedError):
            return StartError(
                f"shared: Redis at {self.address.shown} is a node of a cluster, and {error.host}:{error.port} has the keys of "
                f"{self.address.name!r}; notnow speaks to one Redis: name that node, or one that is not in a cluster"
            )
        return StartError(f"shared: Redis at {self.address.shown} refuses ({words(error)})")

    @property
    def has_forgotten(self) -> bool:
        """True if Redis knows nothing of this service, and replicas may: it has just started, or lost its data. Raises `Lost`."""
        if self.redis.exists(f"{self.address.prefix}clock"):
            return False
        up: int = self.redis.info("server")["uptime_in_seconds"]
        return up < FRESH or self._replicas_listen()

    def _replicas_listen(self) -> bool:
        """True if replicas of this service are there, as far as the user may know."""
        try:
            ((_, count),) = self.redis.pubsub_numsub(self._replicas)
        except redis.exceptions.NoPermissionError:  # it has been set up for an earlier notnow
            return False
        return int(count) > 0

    def knock(self) -> None:
        """See whether Redis answers, on a new connection: its name may lead to another machine by now. Raises `Lost`.

        A pool of its own keeps out those connections that are in use, and would come back.
        """
        old = self.redis.connection_pool
        self.redis.connection_pool = type(old)(old.connection_class, old.max_connections, **old.connection_kwargs)
        old.disconnect(inuse_connections=False)
        self.redis.ping()

    def listen(self) -> PubSub:
        """A subscription to the news, as a context manager. Raises `Lost`."""
        subscription: Any = self.redis.pubsub  # it has no types
        channel: PubSub = subscription(ignore_subscribe_messages=True)
        channel.subscribe(f"{self.address.prefix}news", self._replicas)
        return channel

    def close(self) -> None:
        self.redis.close()
