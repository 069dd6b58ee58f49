-- A killed node stops listening at once, and counts as alive until its lease runs out.
local listening = redis.call('PUBSUB', 'SHARDNUMSUB', tag .. ':told')[2]
return { listening, redis.call('ZRANGEBYSCORE', tag .. ':nodes', '(' .. math.floor(now() / 1000), '+inf') }
