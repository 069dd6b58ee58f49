-- ARGV: node, channel
local all = tonumber(redis.call('HGET', tag .. ':counts', ARGV[2]) or '0')
return { all - tonumber(redis.call('HGET', counts_key(ARGV[1]), ARGV[2]) or '0') }
