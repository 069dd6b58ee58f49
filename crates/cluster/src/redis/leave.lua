-- ARGV: deadline, node, channel, user
local refused = refusal(ARGV[1], ARGV[2])
if refused then return refused end
return unseat(ARGV[2], ARGV[3], ARGV[4]) and 1 or 0
