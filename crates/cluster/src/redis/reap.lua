-- ARGV: dead node, what is logged. Removes a part of its entries in an app, because all of them may take too long
-- for one script.
local PART = 200
local node, log = ARGV[1], read_log(ARGV[2])
local removed, vacated, counted = {}, {}, {}
for _, channel in ipairs(redis.call('SRANDMEMBER', rooms_key(node), 16)) do
  for _, user in ipairs(redis.call('SRANDMEMBER', here_key(node, channel), PART)) do
    if unseat(node, channel, user, log) then
      removed[#removed + 1] = channel
      removed[#removed + 1] = user
    end
  end
end
-- Not HSCAN: from its start it would soon see only buckets that earlier calls have emptied.
for _, channel in ipairs(redis.call('HRANDFIELD', counts_key(node), PART)) do
  local _, after = recount(node, channel, 0, log)
  if after == 0 then vacated[#vacated + 1] = channel else counted[#counted + 1] = channel end
end
for _, user in ipairs(redis.call('SRANDMEMBER', online_key(node), PART)) do sign_out(node, user) end
redis.call('HDEL', tag .. ':connections', node)
local left = redis.call('EXISTS', rooms_key(node), counts_key(node), online_key(node))
if left == 0 then redis.call('SREM', enlisted, node) end
return { removed, vacated, counted, left }
