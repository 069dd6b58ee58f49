-- ARGV: node
redis.call('DEL', tag .. ':apps:' .. ARGV[1], tag .. ':claim:' .. ARGV[1])
redis.call('HDEL', tag .. ':leases', ARGV[1])
return redis.call('ZREM', tag .. ':nodes', ARGV[1])
