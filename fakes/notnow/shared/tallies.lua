-- What is counted, in Redis. `service` and `server` are prefixes of keys:
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

-- The tallies that this call has met; `save` writes those that have changed.
local tallies, changed = {}, {}

local function tally(key)
    local found = tallies[key]
    if not found then
        local packed = call("HGET", server .. "counts", key)
        found = packed and cmsgpack.unpack(packed) or { 0, 0, {} }
        found.key = key
        tallies[key] = found
    end
    return found
end

local function save()
    for key in pairs(changed) do
        local t = tallies[key]
        if call("HSET", server .. "counts", key, cmsgpack.pack({ t[1], t[2], t[3] })) == 1 then
            keep(server .. "counts")
        end
    end
end

local function count(key, now)
    local t = tally(key)
    t[1] = t[1] + 1
    if t[1] == 1 then
        t[2] = now
    end
    changed[key] = true
end

local function fire(t, rule)
    t[3][rule] = (t[3][rule] or 0) + 1
    changed[t.key] = true
end

-- Slots. Only a replica itself acquires and releases what it holds, so a set for each is enough.
local function used(key)
    return tonumber(call("HGET", server .. "slots", key) or 0)
end

local function holds_slot(replica, key, owner)
    return call("SISMEMBER", server .. "held:" .. replica, owner .. "\0" .. key) == 1
end

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

-- Windows.
local function admit(key, now)
    call("RPUSH", server .. "w:" .. key, exact(now))
    call("PEXPIRE", server .. "w:" .. key, KEEP_WINDOW)
    if call("SADD", server .. "windows", key) == 1 then
        keep(server .. "windows")
    end
end

local function recent(key, span, now) -- how many were let through in the last `span` seconds, and when the first was
    local list = server .. "w:" .. key
    local first = tonumber(call("LINDEX", list, 0) or nil)
    while first and first <= now - span do
        call("LPOP", list)
        first = tonumber(call("LINDEX", list, 0) or nil)
    end
    return first and call("LLEN", list) or 0, first
end

local function nth_last(key, n)
    return tonumber(call("LINDEX", server .. "w:" .. key, -n))
end

local function forget_counts()
    call("DEL", server .. "counts", server .. "until")
end

local function forget_windows(prefix)
    for _, key in ipairs(call("SMEMBERS", prefix .. "windows")) do
        call("DEL", prefix .. "w:" .. key)
    end
    call("DEL", prefix .. "windows")
end

-- The queue of a server of finite capacity, as `fakes/notnow/engine/capacity.py` has it; nil if it can do any amount of work.
local EARLY = 1e-6
local station

local function equip(capacity) -- {rate, refusal_cost, queue or nil}
    if capacity then
        local load = call("HMGET", server .. "load", "since", "work")
        station = { rate = capacity[1], refusal_cost = capacity[2], queue = capacity[3],
            since = tonumber(load[1] or 0), work = tonumber(load[2] or 0) }
    end
end

local function free_at()
    return station.since + station.work / station.rate
end

local function room_in(now, more) -- in how many seconds the queue has room for one more unit, and so many more; 0 where it has
    if not station or not station.queue then
        return 0
    end
    local wait = free_at() - now - (station.queue + more) / station.rate
    return wait > EARLY and wait or 0
end

local function add_work(work, now)
    if free_at() <= now then
        station.since, station.work = now, 0
    end
    station.work = station.work + work
    if call("HSET", server .. "load", "since", exact(station.since), "work", exact(station.work)) > 0 then
        keep(server .. "load")
    end
end

local function work(refused, now) -- do the work of an event: in how many seconds it is done; nobody waits for a refusal
    if not station then
        return 0
    elseif not refused then
        add_work(1, now)
        return free_at() - now
    elseif room_in(now, 1) == 0 then
        add_work(station.refusal_cost, now)
    end
    return 0
end
