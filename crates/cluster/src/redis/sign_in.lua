-- ARGV: deadline, node, user
local node, user = ARGV[2], ARGV[3]
local refused = refusal(ARGV[1], ARGV[2])
if refused then return refused end
if redis.call('SADD', online_key(node), user) == 0 then return 0 end
if redis.call('HINCRBY', tag .. ':online', user, 1) > 1 then return 0 end
redis.call('SPUBLISH', tag .. ':users', '1O' .. next_position() .. user)
return 1
