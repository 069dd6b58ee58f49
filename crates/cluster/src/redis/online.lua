-- ARGV: users
local online = {}
for i, user in ipairs(ARGV) do online[i] = redis.call('HEXISTS', tag .. ':online', user) end
return { position(), online }
