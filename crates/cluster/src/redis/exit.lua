-- ARGV: deadline, node, user
if is_late(ARGV[1]) then return LATE end
return sign_out(ARGV[2], ARGV[3]) and 1 or 0
