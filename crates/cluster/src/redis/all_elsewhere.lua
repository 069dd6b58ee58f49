-- ARGV: node, how channels' names start
local mine, found = {}, {}
local flat = redis.call('HGETALL', counts_key(ARGV[1]))
for i = 1, #flat, 2 do mine[flat[i]] = tonumber(flat[i + 1]) end
flat = redis.call('HGETALL', tag .. ':counts')
for i = 1, #flat, 2 do
  local count = tonumber(flat[i + 1]) - (mine[flat[i]] or 0)
  if count > 0 and string.sub(flat[i], 1, #ARGV[2]) == ARGV[2] then
    found[#found + 1] = flat[i]
    found[#found + 1] = count
  end
end
return found
