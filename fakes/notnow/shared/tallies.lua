-- What is counted: tallies, slots, windows, and the queue of a server of finite capacity.

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

-- Slots; see service.lua.
local function used(key)
    return tonumber(call("HGET", server .. "slots", key) or 0)
end

local function holds_slot(replica, key, owner)
    return call("SISMEMBER", server .. "held:" .. replica, owner .. "\0" .. key) == 1
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

-- Where the scenario stands; see service.lua.
local function news() -- tell all replicas; the number of what they are to carry out
    local version = call("HINCRBY", service .. "clock", "version", 1)
    call("PUBLISH", service .. "news", version)
    return version
end

local function set_position(phase, lap, since)
    call("HSET", server .. "state", "phase", phase, "lap", lap, "since", since and exact(since) or "")
end

local function move(seen, to) -- counts restart with the phase and the lap
    if to[1] ~= seen[1] or to[2] ~= seen[2] then
        forget_counts()
    end
    set_position(to[1], to[2], to[3])
    return news()
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
