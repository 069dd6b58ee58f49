-- ARGV: node, milliseconds of its lease, message
local nodes, time = tag .. ':nodes', now()
local millis = math.floor(time / 1000)
redis.call('ZADD', nodes, millis + tonumber(ARGV[2]), ARGV[1])
redis.call('SPUBLISH', tag .. ':told', ARGV[3])
return {
  string.format('%.0f', time),
  redis.call('ZRANGEBYSCORE', nodes, '(' .. millis, '+inf'),
  redis.call('ZRANGEBYSCORE', nodes, '-inf', millis),
}
