-- ARGV: deadline, node, most connections
if is_late(ARGV[1]) then return LATE end
local key, all = tag .. ':connections', 0
for _, count in ipairs(redis.call('HVALS', key)) do all = all + tonumber(count) end
if all >= tonumber(ARGV[3]) then return 0 end
redis.call('HINCRBY', key, ARGV[2], 1)
return 1
