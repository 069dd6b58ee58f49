-- ARGV: deadline, node, app
if is_late(ARGV[1]) then return LATE end
redis.call('SADD', tag .. ':apps:' .. ARGV[2], ARGV[3])
return 1
