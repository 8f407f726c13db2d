-- One decision.
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
local function decide()
    local request = given.request
    local here, latest, play = is_at(given.play, request[1])
    if not here then
        return reply(play and "moved" or "lease")
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
        local events = call("HINCRBY", server .. "until", limit[1], 1)
        if events == 1 then
            keep(server .. "until")
        end
        ends = events >= limit[2] or ends
    end
    local quotas = {}
    for i, pair in ipairs(request[8]) do
        quotas[i] = quota_of(pair[1], pair[2], now)
    end
    save()
    if ends and given.after then -- now, so that no event of another replica is one too many for the phase
        move(request[1], { given.after[1], given.after[2], request[1][3] and now })
    end
    return reply("ok", fired and fired[1] or false, ends, quotas, wait)
end

return is_alive() and decide() or reply("lease")
