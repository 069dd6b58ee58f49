-- ARGV: most entries, the longest time in milliseconds until an entry is due
local millis, longest = math.floor(now() / 1000), tonumber(ARGV[2])
-- A clock that was set back leaves entries that are due too far ahead.
for _, entry in ipairs(redis.call('ZRANGEBYSCORE', transitions, '(' .. millis + longest, '+inf', 'LIMIT', 0, 1000)) do
  redis.call('ZADD', transitions, millis + longest, entry)
end
local due = {}
local found = redis.call('ZRANGEBYSCORE', transitions, '-inf', millis, 'WITHSCORES', 'LIMIT', 0, ARGV[1])
for i = 1, #found, 2 do
  if is_end_of_present(found[i]) then
    redis.call('ZREM', transitions, found[i])
  else
    due[#due + 1] = found[i]
    due[#due + 1] = found[i + 1]
  end
end
local next_due = redis.call('ZRANGE', transitions, #due / 2, #due / 2, 'WITHSCORES')[2]
return {
  next_stamp(),
  due,
  next_due and math.max(tonumber(next_due) - millis, 0) or -1,
  tonumber(redis.call('GET', refused_transitions) or '0'),
}
