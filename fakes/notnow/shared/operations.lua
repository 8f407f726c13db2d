-- What replicas ask now and then.

local function renew()
    call("ZADD", service .. "leases", ms + given.lease, given.member)
    for _, name in ipairs({ "clock", "leases", "acks", "servers", "journal" }) do
        keep(service .. name)
    end
    for _, name in ipairs({ "state", "counts", "until", "slots", "load", "windows", "held:" .. given.replica }) do
        keep(server .. name)
    end
end

local function members() -- the replicas that live, as a function: SERVER, REPLICA, SERVER/REPLICA of the next one
    local all, i = call("ZRANGE", service .. "leases", 0, -1), 0
    return function()
        i = i + 1
        local slash = all[i] and string.find(all[i], "/", 1, true)
        if slash then
            return string.sub(all[i], 1, slash - 1), string.sub(all[i], slash + 1), all[i]
        end
    end
end

-- ---- time -----------------------------------------------------------------------------------------

-- Microseconds of real time since scenario time was 0; nil if nobody knows. It never goes back: where Redis's clock was set
-- back since the last look, zero and the ends of leases go back with it.
local function elapsed()
    local clock = call("HMGET", service .. "clock", "zero", "seen")
    local zero, back = tonumber(clock[1] or nil), tonumber(clock[2] or 0) - micros
    if not zero then
        return nil
    elseif back > 0 then
        zero = zero - back
        call("HSET", service .. "clock", "zero", exact(zero))
        for _, _, member in members() do
            call("ZINCRBY", service .. "leases", -math.floor(back / 1000), member)
        end
    end
    call("HSET", service .. "clock", "seen", exact(micros))
    return micros - zero
end

-- ---- the state of a scenario ----------------------------------------------------------------------

local function state() -- nil if Redis has lost it
    local found = { elapsed = elapsed() }
    for _, name in ipairs({ "clock", "state" }) do
        local list = call("HGETALL", (name == "clock" and service or server) .. name)
        for i = 1, #list, 2 do
            found[list[i]] = list[i + 1]
        end
    end
    return found.zero and found.run and found
end

local function reply_with_state(word, ...)
    local found = state()
    if not found then
        return reply("lease")
    end
    return reply(word, found, ...)
end

local function forget_all_slots()
    for name, replica in members() do
        call("DEL", service .. name .. ":held:" .. replica)
    end
    call("DEL", server .. "slots")
end

-- A server lasts as long as one of its replicas, and the time of all servers as long as one of them.
local function forget_what_nobody_serves()
    local served = {}
    for name in members() do
        served[name] = true
    end
    for _, name in ipairs(call("SMEMBERS", service .. "servers")) do
        if not served[name] then
            local prefix = service .. name .. ":"
            forget_windows(prefix)
            call("DEL", prefix .. "state", prefix .. "counts", prefix .. "until", prefix .. "slots", prefix .. "load")
            call("SREM", service .. "servers", name)
        end
    end
    if not next(served) then
        call("DEL", service .. "clock", service .. "acks")
    end
    return served
end

-- ---- the operations -------------------------------------------------------------------------------

local operations = {}

local function begin_clock(knows)
    call("HSET", service .. "clock", "zero", exact(micros - (knows and knows.elapsed or 0)), "speed", given.speed,
        "advanced", knows and exact(knows.advanced) or "0", "version", knows and knows.version or 0)
end

local function begin_server(knows)
    call("SADD", service .. "servers", given.server)
    call("HSET", server .. "state", "run", knows and knows.run or given.run, "origin", given.digest, "digest", given.digest,
        "scenario", given.scenario, "play", knows and knows.play or 1, "kicks", knows and knows.kicks or 0, "latest", "0")
    local at = knows and knows.position or { 0, 0 }
    set_position(at[1], at[2], at[3])
end

-- A replica comes, or comes back with what it `knows`: after an outage of Redis that may be all that is left.
function operations.join()
    elapsed()
    drop_the_dead()
    local knows = given.knows
    if not knows and not next(forget_what_nobody_serves()) then
        call("DEL", service .. "journal")
    end
    local speed = call("HMGET", service .. "clock", "zero", "speed")
    if not speed[1] then
        begin_clock(knows)
    elseif not knows and speed[2] ~= given.speed then
        return reply("speed", speed[2])
    end
    local there = call("HMGET", server .. "state", "run", "origin", "digest", "scenario")
    if not there[1] then
        begin_server(knows)
    elseif knows and there[1] ~= knows.run then
        return reply("ended")
    elseif not knows and given.digest ~= there[2] and given.digest ~= there[3] then
        return reply("other", there[4])
    end
    drop(given.member)
    renew()
    acquire(given.replica, given.slots)
    if not knows then -- it has nothing to catch up with
        call("HSET", service .. "acks", given.member, call("HGET", service .. "clock", "version"))
    end
    return reply_with_state("ok", call("HINCRBY", service .. "clock", "joined", 1))
end

function operations.renew() -- the number of the news, and the time
    local since = elapsed() -- before the lease: it may set all leases back
    if not since then
        return reply("lease")
    end
    renew()
    return reply("ok", tonumber(call("HGET", service .. "clock", "version")), since)
end

function operations.leave()
    drop(given.member)
    drop_the_dead()
    forget_what_nobody_serves()
    return reply("ok")
end

function operations.move()
    local here, _, play = is_at(given.play, given.seen)
    if not here then
        return reply(play and "moved" or "lease")
    end
    return reply("ok", move(given.seen, given.to))
end

function operations.acquire()
    acquire(given.replica, given.slots)
    return reply("ok")
end

local function forget(keys)
    for _, key in ipairs(keys) do
        call("HDEL", server .. "counts", key)
        call("DEL", server .. "w:" .. key)
        call("SREM", server .. "windows", key)
    end
end

function operations.forget()
    forget(given.keys)
    return reply("ok")
end

function operations.let_go() -- a replica is about to leave: its slots are free at once
    release_everything(server, given.replica)
    forget(given.keys)
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
    return reply_with_state("ok")
end

function operations.kick()
    call("HINCRBY", server .. "state", "kicks", 1)
    news()
    return reply_with_state("ok")
end

function operations.advance()
    if not elapsed() then
        return reply("lease")
    end
    local advanced = call("HINCRBYFLOAT", service .. "clock", "advanced", exact(given.by))
    return reply("ok", advanced, news())
end

function operations.state()
    return reply_with_state("ok")
end

function operations.done() -- a replica has carried out the news up to this version
    call("HSET", service .. "acks", given.member, given.version)
    return reply("ok")
end

function operations.behind() -- how many living replicas have yet to do so
    drop_the_dead()
    local waiting = 0
    for _, _, member in members() do
        if member ~= given.member and tonumber(call("HGET", service .. "acks", member) or 0) < given.version then
            waiting = waiting + 1
        end
    end
    return reply("ok", waiting)
end

local WITHOUT_A_LEASE = { join = true, leave = true, behind = true }
if not WITHOUT_A_LEASE[ARGV[1]] and not is_alive() then
    return reply("lease")
end
return operations[ARGV[1]]()
