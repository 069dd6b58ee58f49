-- ARGV: deadline, node
if is_late(ARGV[1]) then return LATE end
redis.call('SADD', enlisted, ARGV[2])
return 1
