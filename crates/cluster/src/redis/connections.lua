-- ARGV: deadline, node, count
local refused = refusal(ARGV[1], ARGV[2])
if refused then return refused end
local key = tag .. ':connections'
if ARGV[3] == '0' then redis.call('HDEL', key, ARGV[2]) else redis.call('HSET', key, ARGV[2], ARGV[3]) end
return 1
