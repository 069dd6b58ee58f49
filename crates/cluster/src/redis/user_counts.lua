-- ARGV: channels
local counts = {}
for i, channel in ipairs(ARGV) do counts[i] = redis.call('HLEN', seats_key(channel)) end
return counts
