-- ARGV: dead node. Clears away a part of what it has left in an app: a node may leave more than fits into one moment.
local PART = 200
local node = ARGV[1]
local removed, vacated, counted = {}, {}, {}
for _, channel in ipairs(redis.call('SRANDMEMBER', rooms_key(node), 16)) do
  for _, user in ipairs(redis.call('SRANDMEMBER', here_key(node, channel), PART)) do
    if unseat(node, channel, user) then
      removed[#removed + 1] = channel
      removed[#removed + 1] = user
    end
  end
end
-- Not HSCAN: where it begins it would find nothing any more after a while.
for _, channel in ipairs(redis.call('HRANDFIELD', counts_key(node), PART)) do
  local _, after = recount(node, channel, 0)
  if after == 0 then vacated[#vacated + 1] = channel else counted[#counted + 1] = channel end
end
for _, user in ipairs(redis.call('SRANDMEMBER', online_key(node), PART)) do sign_out(node, user) end
redis.call('HDEL', tag .. ':connections', node)
local left = redis.call('EXISTS', rooms_key(node), counts_key(node), online_key(node))
if left == 0 then redis.call('SREM', enlisted, node) end
return { removed, vacated, counted, left }
