-- ARGV: node, prefix of the channels' names
local mine, found, listed = {}, {}, {}
local function is_wanted(channel)
  return string.sub(channel, 1, #ARGV[2]) == ARGV[2]
end
local function list(channel, count)
  listed[channel] = true
  found[#found + 1] = channel
  found[#found + 1] = count
end
local flat = redis.call('HGETALL', counts_key(ARGV[1]))
for i = 1, #flat, 2 do mine[flat[i]] = tonumber(flat[i + 1]) end
flat = redis.call('HGETALL', tag .. ':counts')
for i = 1, #flat, 2 do
  local count = tonumber(flat[i + 1]) - (mine[flat[i]] or 0)
  if count > 0 and is_wanted(flat[i]) then list(flat[i], count) end
end
-- Members are known at once, and counts a moment later.
local presence = 'presence-'
if string.sub(presence, 1, #ARGV[2]) == ARGV[2] or string.sub(ARGV[2], 1, #presence) == presence then
  for _, node in ipairs(redis.call('SMEMBERS', enlisted)) do
    for _, channel in ipairs(redis.call('SMEMBERS', rooms_key(node))) do
      if is_wanted(channel) and not listed[channel] then list(channel, 0) end
    end
  end
end
return found
