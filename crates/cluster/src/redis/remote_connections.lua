-- ARGV: node
local counts, all = redis.call('HGETALL', tag .. ':connections'), 0
for index = 1, #counts, 2 do
  if counts[index] ~= ARGV[1] then all = all + tonumber(counts[index + 1]) end
end
return { all }
