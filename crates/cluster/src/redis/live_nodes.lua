-- A killed node stops receiving at once, and counts as alive until its lease runs out.
local receiving = redis.call('PUBSUB', 'SHARDNUMSUB', tag .. ':told')[2]
return { receiving, redis.call('ZRANGEBYSCORE', tag .. ':nodes', '(' .. math.floor(now() / 1000), '+inf') }
