-- ARGV: deadline, node, user
local refused = refusal(ARGV[1], ARGV[2])
if refused then return refused end
return sign_out(ARGV[2], ARGV[3]) and 1 or 0
