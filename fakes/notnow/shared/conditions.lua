-- The conditions of rules, as `fakes/notnow/language/conditions.py` has them: a function for each class, with its name.
-- `holds` is given the tally of the rule's key, the time, the owners and the replica of the event, and the fields of the
-- class in their order. A tally is {number of events, time of the first, firings by rule}; used(), recent() and nth_last()
-- know its slots and windows, room_in() the queue of the whole server. `quota` returns what remains, the wait and the reset, each nil where only another event decides it.
local holds, quota = {}, {}

function holds.Nth(t, _, _, _, n)
    return t[1] == n
end

function holds.Every(t, _, _, _, n)
    return t[1] % n == 0
end

function holds.First(t, _, _, _, n)
    return t[1] <= n
end

function holds.FirstFor(t, now, _, _, span)
    return now - t[2] < span
end

function quota.FirstFor(t, now, span)
    local left = math.max(0, t[2] + span - now)
    return nil, left, left
end

function holds.After(t, _, _, _, n)
    return t[1] > n
end

function quota.After(t, _, n)
    return math.max(0, n - t[1])
end

function holds.AfterFor(t, now, _, _, span)
    return now - t[2] >= span
end

function holds.Over(t, _, owners, replica, n)
    local others = used(t.key)
    if others >= n then
        for _, owner in ipairs(owners) do
            if holds_slot(replica, t.key, owner) then
                others = others - 1
            end
        end
    end
    return others >= n
end

function quota.Over(t, _, n)
    return math.max(0, n - used(t.key))
end

function holds.OverWithin(t, now, _, _, n, span)
    return recent(t.key, span, now) >= n
end

function quota.OverWithin(t, now, n, span)
    local found, first = recent(t.key, span, now)
    local reset = first and first + span - now or 0
    if found < n then
        return n - found, 0, reset
    end
    return 0, n > 0 and nth_last(t.key, n) + span - now or nil, reset
end

function holds.Busy(_, now, _, _, wanted)
    return (room_in(now, 0) > 0) == wanted
end

function quota.Busy(_, now, wanted)
    return nil, wanted and room_in(now, 0) or nil
end

function holds.Times(t, _, _, _, rule, n)
    return (t[3][rule] or 0) < n
end
