-- What replicas ask: ARGV[1] names the operation, ARGV[2] is what it needs, packed. Each is atomic, and answers with
-- {word, …}: "ok"; "lease" if the replica's lease has ended; "moved" if the scenario stands elsewhere; "other" and "speed"
-- for one who does not fit in here.
local given = cmsgpack.unpack(ARGV[2])
local time = call("TIME")
local ms = time[1] * 1000 + math.floor(time[2] / 1000)

local function reply(...)
    return cmsgpack.pack({ ... })
end

-- ---- leases ---------------------------------------------------------------------------------------

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

local function renew()
    call("ZADD", service .. "leases", ms + given.lease, given.member)
end

-- ---- the state of a scenario ----------------------------------------------------------------------

local function news() -- tell all replicas; the number of what they are to carry out
    local version = call("HINCRBY", service .. "clock", "version", 1)
    call("PUBLISH", service .. "news", version)
    return version
end

local function state()
    local found = {}
    for _, name in ipairs({ "clock", "state" }) do
        local list = call("HGETALL", (name == "clock" and service or server) .. name)
        for i = 1, #list, 2 do
            found[list[i]] = list[i + 1]
        end
    end
    found.time = time[1] .. string.format("%06d", time[2]) -- microseconds: more digits than the packed number keeps
    return found
end

local function set_position(phase, lap, since)
    call("HSET", server .. "state", "phase", phase, "lap", lap, "since", since and exact(since) or "")
end

local function is_at(play, position)
    local at = call("HMGET", server .. "state", "play", "phase", "lap", "since", "latest")
    local here = tonumber(at[1]) == play and tonumber(at[2]) == position[1] and tonumber(at[3]) == position[2]
        and tonumber(at[4] or "") == position[3]
    return here, tonumber(at[5] or 0)
end

local function forget_all_slots()
    for _, member in ipairs(call("ZRANGE", service .. "leases", 0, -1)) do
        call("DEL", server .. "held:" .. string.sub(member, string.find(member, "/", 1, true) + 1))
    end
    call("DEL", server .. "slots")
end

local function forget_service()
    for _, name in ipairs(call("SMEMBERS", service .. "servers")) do
        local prefix = service .. name .. ":"
        forget_windows(prefix)
        call("DEL", prefix .. "state", prefix .. "counts", prefix .. "until", prefix .. "slots", prefix .. "load")
    end
    call("DEL", service .. "servers", service .. "clock", service .. "acks")
end

-- ---- the operations -------------------------------------------------------------------------------

local operations = {}

-- A replica comes, or comes back with what it `knows`: after an outage of Redis that may be all that is left.
function operations.join()
    drop_the_dead()
    local knows = given.knows
    if not knows and call("ZCARD", service .. "leases") == 0 then
        forget_service()
        call("DEL", service .. "journal")
    end
    if call("EXISTS", service .. "clock") == 0 then
        local zero = knows and knows.zero or time[1] .. string.format("%06d", time[2])
        call("HSET", service .. "clock", "run", knows and knows.run or given.run, "zero", zero, "speed", given.speed,
            "advanced", knows and knows.advanced or "0", "version", knows and knows.version or 0)
    elseif not knows and call("HGET", service .. "clock", "speed") ~= given.speed then
        return reply("speed", call("HGET", service .. "clock", "speed"))
    end
    if call("EXISTS", server .. "state") == 0 then
        call("SADD", service .. "servers", given.server)
        call("HSET", server .. "state", "origin", given.digest, "digest", given.digest, "scenario", given.scenario,
            "play", knows and knows.play or 1, "kicks", knows and knows.kicks or 0, "latest", "0")
        local at = knows and knows.position or { 0, 0 }
        set_position(at[1], at[2], at[3])
    elseif not knows then
        local there = call("HMGET", server .. "state", "origin", "digest", "scenario")
        if given.digest ~= there[1] and given.digest ~= there[2] then
            return reply("other", there[3])
        end
    end
    drop(given.member)
    renew()
    acquire(given.replica, given.slots)
    if not knows then -- it has nothing to catch up with
        call("HSET", service .. "acks", given.member, call("HGET", service .. "clock", "version"))
    end
    local ordinal = call("HINCRBY", service .. "clock", "joined", 1)
    return reply("ok", state(), ordinal)
end

function operations.renew()
    if not is_alive() then
        return reply("lease")
    end
    renew()
    for _, key in ipairs({ service .. "clock", service .. "leases", service .. "acks", service .. "servers",
        service .. "journal", server .. "state", server .. "counts", server .. "until", server .. "slots", server .. "load",
        server .. "windows", server .. "held:" .. given.replica }) do
        call("PEXPIRE", key, KEEP)
    end
    return reply("ok", tonumber(call("HGET", service .. "clock", "version")))
end

function operations.leave()
    drop(given.member)
    drop_the_dead()
    if call("ZCARD", service .. "leases") == 0 then
        forget_service()
    end
    return reply("ok")
end

local function holds_all(candidate, t, now, request)
    for _, condition in ipairs(candidate[3]) do
        if not holds[condition[1]](t, now, request[2], given.replica, unpack(condition[2])) then
            return false
        end
    end
    return true
end

local function first_that_fires(request, now)
    for _, pair in ipairs(request[4]) do
        local candidate, t = pair[1], tally(pair[2])
        if holds_all(candidate, t, now, request) then
            fire(t, candidate[1])
            return candidate
        end
    end
end

local function best(one, other, better) -- of two numbers, each of which may be absent
    return one and other and better(one, other) or one or other
end

local function quota_of(candidate, key, now)
    local remaining, wait, reset
    for _, condition in ipairs(candidate[3]) do
        local tell = quota[condition[1]]
        if tell then
            local its_remaining, its_wait, its_reset = tell(tally(key), now, unpack(condition[2]))
            remaining = best(remaining, its_remaining, math.max)
            wait = best(wait, its_wait, math.min)
            reset = best(reset, its_reset, math.min)
        end
    end
    return { remaining or false, wait or false, reset or false }
end

-- The same as `Memory.decide`, on an `EncodedRequest`: position, owners, counts, candidates, slots, windows, until, limits, facts, work.
function operations.decide()
    if not is_alive() then
        return reply("lease")
    end
    local request = given.request
    local here, latest = is_at(given.play, request[1])
    if not here then
        return reply("moved", state())
    end
    equip(given.capacity)
    local now = given.now
    if now > latest then
        call("HSET", server .. "state", "latest", exact(now))
    else
        now = latest -- a replica whose clock is behind by a millisecond does not turn time back
    end
    for _, key in ipairs(request[3]) do
        count(key, now)
    end
    local fired = first_that_fires(request, now)
    if not (fired and fired[2]) then
        acquire(given.replica, request[5])
        for _, key in ipairs(request[6]) do
            admit(key, now)
        end
    end
    local wait = request[10] and work(fired and fired[2], now) or 0
    local ends = false
    for _, limit in ipairs(request[7]) do
        ends = call("HINCRBY", server .. "until", limit[1], 1) >= limit[2] or ends
    end
    local quotas = {}
    for i, pair in ipairs(request[8]) do
        quotas[i] = quota_of(pair[1], pair[2], now)
    end
    save()
    return reply("ok", fired and fired[1] or false, ends, quotas, wait)
end

function operations.move()
    if not is_at(given.play, given.seen) then
        return reply("moved", state())
    end
    local seen, to = given.seen, given.to
    if to[1] ~= seen[1] or to[2] ~= seen[2] then
        forget_counts()
    end
    set_position(to[1], to[2], to[3])
    return reply("ok", news())
end

function operations.acquire()
    if not is_alive() then
        return reply("lease")
    end
    acquire(given.replica, given.slots)
    return reply("ok")
end

function operations.release()
    release(given.replica, given.slots)
    return reply("ok")
end

function operations.forget()
    call("HDEL", server .. "counts", unpack(given.keys))
    for _, key in ipairs(given.keys) do
        call("DEL", server .. "w:" .. key)
        call("SREM", server .. "windows", key)
    end
    return reply("ok")
end

function operations.play()
    forget_counts()
    forget_windows(server)
    forget_all_slots()
    call("DEL", server .. "load")
    call("HSET", server .. "state", "digest", given.digest, "scenario", given.scenario)
    call("HINCRBY", server .. "state", "play", 1)
    set_position(0, 0)
    news()
    return reply("ok", state())
end

function operations.kick()
    call("HINCRBY", server .. "state", "kicks", 1)
    news()
    return reply("ok", state())
end

function operations.advance()
    local advanced = call("HINCRBYFLOAT", service .. "clock", "advanced", exact(given.by))
    return reply("ok", advanced, news())
end

function operations.state()
    return reply("ok", state())
end

function operations.done() -- a replica has carried out the news up to this version
    if is_alive() then
        call("HSET", service .. "acks", given.member, given.version)
    end
    return reply("ok")
end

function operations.behind() -- how many living replicas have yet to do so
    drop_the_dead()
    local waiting = 0
    for _, member in ipairs(call("ZRANGE", service .. "leases", 0, -1)) do
        if member ~= given.member and tonumber(call("HGET", service .. "acks", member) or 0) < given.version then
            waiting = waiting + 1
        end
    end
    return reply("ok", waiting)
end

return operations[ARGV[1]]()
