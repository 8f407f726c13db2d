-- What every operation stands on: keys, time, slots, leases. Operations are scripts: ARGV[1] names them, ARGV[2] is what they
-- need, packed. Each is atomic, and answers with {word, …}: "ok"; "lease" if the replica's lease has ended, or what it counts
-- in is gone; "moved" if the scenario stands elsewhere; "other", "speed" and "ended" for one who does not fit in here.
--
-- `service` and `server` are prefixes of keys:
--   SERVICE clock    hash: when scenario time 0 was, its speed, how far it was advanced, the version of the news
--   SERVICE leases   sorted set: SERVER/REPLICA by the time, in ms, at which its lease ends
--   SERVICE acks     hash: SERVER/REPLICA -> the version that it has carried out
--   SERVICE journal  stream: the entries of all journals
--   SERVER  state    hash: the scenario, its position, the number of plays and kicks, the latest time
--   SERVER  counts   hash: the tallies, packed as {count, since, fired}; they restart with the phase, as `until` does
--   SERVER  until    hash: moment -> number of events
--   SERVER  slots    hash: key -> number of its owners
--   SERVER  load     hash: since when the server has worked without a rest, and the units of work that have come since
--   SERVER  held:R   set: what replica R holds, each as OWNER \0 KEY
--   SERVER  w:KEY    list: the times of admissions; `windows` is the set of these keys
local service, server = KEYS[1], KEYS[2]
local call = redis.call
local KEEP = 24 * 3600 * 1000 -- ms after which Redis forgets a service whose replicas were all killed
local KEEP_WINDOW = 30 * KEEP

-- A key that has just come is kept as long as all others, whose time is renewed with the leases.
local function keep(key)
    call("PEXPIRE", key, KEEP)
end

local function exact(number) -- all 17 digits: what comes back is the same number
    return string.format("%.17g", number)
end

local given = cmsgpack.unpack(ARGV[2])
local time = call("TIME")
local micros = time[1] * 1000000 + time[2]
local ms = math.floor(micros / 1000)

local function reply(...)
    return cmsgpack.pack({ ... })
end

-- Slots. Only a replica itself acquires and releases what it holds, so a set for each is enough.
local function acquire(replica, slots)
    local held = server .. "held:" .. replica
    for _, slot in ipairs(slots) do
        if call("SADD", held, slot[2] .. "\0" .. slot[1]) == 1 then
            if call("HINCRBY", server .. "slots", slot[1], 1) == 1 then
                keep(server .. "slots")
            end
            keep(held)
        end
    end
end

local function free(prefix, key)
    if call("HINCRBY", prefix .. "slots", key, -1) <= 0 then
        call("HDEL", prefix .. "slots", key)
    end
end

local function release(replica, slots)
    for _, slot in ipairs(slots) do
        if call("SREM", server .. "held:" .. replica, slot[2] .. "\0" .. slot[1]) == 1 then
            free(server, slot[1])
        end
    end
end

local function release_everything(prefix, replica)
    for _, held in ipairs(call("SMEMBERS", prefix .. "held:" .. replica)) do
        free(prefix, string.sub(held, string.find(held, "\0", 1, true) + 1))
    end
    call("DEL", prefix .. "held:" .. replica)
end

-- Leases.
local function drop(member) -- SERVER/REPLICA
    local slash = string.find(member, "/", 1, true)
    release_everything(service .. string.sub(member, 1, slash - 1) .. ":", string.sub(member, slash + 1))
    call("ZREM", service .. "leases", member)
    call("HDEL", service .. "acks", member)
end

local function drop_the_dead()
    for _, member in ipairs(call("ZRANGEBYSCORE", service .. "leases", "-inf", ms)) do
        drop(member)
    end
end

local function is_alive()
    drop_the_dead()
    return call("ZSCORE", service .. "leases", given.member)
end

-- Where the scenario stands.
local function is_at(play, position) -- also the latest time that a replica has told, and the play, false if Redis has lost it
    local at = call("HMGET", server .. "state", "play", "phase", "lap", "since", "latest")
    local here = tonumber(at[1]) == play and tonumber(at[2]) == position[1] and tonumber(at[3]) == position[2]
        and tonumber(at[4] or "") == position[3]
    return here, tonumber(at[5] or 0), at[1]
end
