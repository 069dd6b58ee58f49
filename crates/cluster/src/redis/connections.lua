-- ARGV: deadline, node, count
if is_late(ARGV[1]) then return LATE end
local key = tag .. ':connections'
if ARGV[3] == '0' then redis.call('HDEL', key, ARGV[2]) else redis.call('HSET', key, ARGV[2], ARGV[3]) end
return 1
