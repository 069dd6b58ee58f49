-- ARGV: deadline, node, channel, user, what is logged
local refused = refusal(ARGV[1], ARGV[2])
if refused then return refused end
return unseat(ARGV[2], ARGV[3], ARGV[4], read_log(ARGV[5])) and 1 or 0
