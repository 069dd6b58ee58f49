-- ARGV: node, milliseconds of its lease, message, 1 if it has not lived before
local nodes, time = tag .. ':nodes', now()
local millis = math.floor(time / 1000)
if ARGV[4] == '0' then
  local alive = tonumber(redis.call('ZSCORE', nodes, ARGV[1]) or '0')
  if alive <= millis then return LATE end
end
redis.call('ZADD', nodes, millis + tonumber(ARGV[2]), ARGV[1])
redis.call('SPUBLISH', tag .. ':told', ARGV[3])
return {
  string.format('%.0f', time),
  redis.call('ZRANGEBYSCORE', nodes, '(' .. millis, '+inf'),
  redis.call('ZRANGEBYSCORE', nodes, '-inf', millis),
}
