-- ARGV: deadline, node, channel, count, 1 if subscribers get the count
local refused = refusal(ARGV[1], ARGV[2])
if refused then return refused end
local before, after = recount(ARGV[2], ARGV[3], tonumber(ARGV[4]))
if ARGV[5] == '1' and after > 0 then announce(ARGV[3], string.format('1C%d', after)) end
return { before, after }
