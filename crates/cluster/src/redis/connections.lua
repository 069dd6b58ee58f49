-- ARGV: deadline, node, count
if is_late(ARGV[1]) then return LATE end
local key, all = tag .. ':connections', 0
if ARGV[3] == '0' then redis.call('HDEL', key, ARGV[2]) else redis.call('HSET', key, ARGV[2], ARGV[3]) end
for _, count in ipairs(redis.call('HVALS', key)) do all = all + tonumber(count) end
return { all }
