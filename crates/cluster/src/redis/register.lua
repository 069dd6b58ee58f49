-- ARGV: node, app
redis.call('SADD', tag .. ':apps:' .. ARGV[1], ARGV[2])
return 1
