-- ARGV: node
return redis.call('SMEMBERS', tag .. ':apps:' .. ARGV[1])
