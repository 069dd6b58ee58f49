-- ARGV: deadline, node, channel, count, 1 if subscribers get the count, what is logged, 1 if
-- subscribers came and went since the last report
local refused = refusal(ARGV[1], ARGV[2])
if refused then return refused end
local log = read_log(ARGV[6])
local before, after = recount(ARGV[2], ARGV[3], tonumber(ARGV[4]), log)
if log.channels and ARGV[7] == '1' and before == 0 and after == 0 then
  log_occupied(log, ARGV[3], false)
  log_end(log, 'd' .. ARGV[3])
end
if ARGV[5] == '1' and after > 0 then announce(ARGV[3], string.format('1C%d', after)) end
return { before, after }
