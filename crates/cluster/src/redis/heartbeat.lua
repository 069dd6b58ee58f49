-- ARGV: node, milliseconds of its lease, message, 1 for its first heartbeat, installation, for how long it claims these
-- names in milliseconds
local nodes, leases, time = tag .. ':nodes', tag .. ':leases', now()
local millis = math.floor(time / 1000)
local installation = tag .. ':installation'
if (redis.call('GET', installation) or ARGV[5]) ~= ARGV[5] then return OTHER end
if ARGV[4] == '0' then
  local alive = tonumber(redis.call('ZSCORE', nodes, ARGV[1]) or '0')
  if alive <= millis then return LATE end
else
  redis.call('HSET', leases, ARGV[1], ARGV[2])
end
redis.call('SET', installation, ARGV[5], 'PX', ARGV[6])
redis.call('ZADD', nodes, millis + tonumber(ARGV[2]), ARGV[1])
-- A clock that was set back, or another master's, leaves leases that end too far ahead: none may
-- last longer than a lease from now.
for _, node in ipairs(redis.call('ZRANGEBYSCORE', nodes, '(' .. millis + tonumber(ARGV[2]), '+inf')) do
  local lease = tonumber(redis.call('HGET', leases, node) or ARGV[2])
  if tonumber(redis.call('ZSCORE', nodes, node)) > millis + lease then redis.call('ZADD', nodes, millis + lease, node) end
end
redis.call('SPUBLISH', tag .. ':told', ARGV[3])
return {
  string.format('%.0f', time),
  redis.call('ZRANGEBYSCORE', nodes, '(' .. millis, '+inf'),
  redis.call('ZRANGEBYSCORE', nodes, '-inf', millis),
}
