-- ARGV: deadline, node, limit of connections, change of the node's connections since its last
-- report
local refused = refusal(ARGV[1], ARGV[2])
if refused then return refused end
local key, all = tag .. ':connections', 0
if ARGV[4] ~= '0' and redis.call('HINCRBY', key, ARGV[2], ARGV[4]) <= 0 then redis.call('HDEL', key, ARGV[2]) end
for _, count in ipairs(redis.call('HVALS', key)) do all = all + tonumber(count) end
if all >= tonumber(ARGV[3]) then return 0 end
redis.call('HINCRBY', key, ARGV[2], 1)
return 1
