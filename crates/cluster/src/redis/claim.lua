-- ARGV: dead node, milliseconds
local claimed = redis.call('SET', tag .. ':burial:' .. ARGV[1], '1', 'NX', 'PX', ARGV[2])
return { claimed and 1 or 0 }
