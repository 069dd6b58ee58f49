-- ARGV: node
redis.call('ZREM', tag .. ':nodes', ARGV[1])
redis.call('DEL', tag .. ':apps:' .. ARGV[1], tag .. ':burial:' .. ARGV[1])
return 1
