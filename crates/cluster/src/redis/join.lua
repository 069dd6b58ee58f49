-- ARGV: deadline, node, channel, user, their info or '', most users, 1 if the answer has the
-- members, what is logged
local node, channel, user = ARGV[2], ARGV[3], ARGV[4]
local seats, members = seats_key(channel), members_key(channel)
local refused = refusal(ARGV[1], ARGV[2])
if refused then return refused end
if redis.call('HEXISTS', seats, user) == 0 and redis.call('HLEN', seats) >= tonumber(ARGV[6]) then return 'full' end
local added = 0
redis.call('HSET', members, user, ARGV[5])
if redis.call('SADD', here_key(node, channel), user) == 1 then
  redis.call('SADD', rooms_key(node), channel)
  if redis.call('HINCRBY', seats, user, 1) == 1 then
    added = 1
    local log = read_log(ARGV[8])
    -- Its subscriptions are reported a moment later.
    if log.channels and redis.call('HLEN', seats) == 1 and not is_subscribed(channel) then log_occupied(log, channel, false) end
    if log.members then log_added(log, channel, user) end
    announce(channel, '1A' .. next_position() .. #user .. ':' .. user .. ARGV[5])
  end
end
return { added, position(), ARGV[7] == '1' and redis.call('HGETALL', members) or {} }
