-- ARGV: deadline, node, channel, user
if is_late(ARGV[1]) then return LATE end
return unseat(ARGV[2], ARGV[3], ARGV[4]) and 1 or 0
