-- Slots come back. A replica whose lease has ended has none.
release(given.replica, given.slots)
return reply("ok")
