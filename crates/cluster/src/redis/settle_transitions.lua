-- ARGV: for each entry: the entry, and when it was due
for i = 1, #ARGV, 2 do
  local due = redis.call('ZSCORE', transitions, ARGV[i])
  if due and tonumber(due) == tonumber(ARGV[i + 1]) then redis.call('ZREM', transitions, ARGV[i]) end
end
return 1
