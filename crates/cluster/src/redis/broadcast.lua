-- ARGV: deadline, message
if is_late(ARGV[1]) then return LATE end
redis.call('SPUBLISH', tag .. ':told', ARGV[2])
return 1
