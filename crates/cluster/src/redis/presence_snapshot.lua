-- ARGV: channel
return { position(), redis.call('HGETALL', members_key(ARGV[1])) }
