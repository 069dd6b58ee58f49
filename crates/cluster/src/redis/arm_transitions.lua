-- ARGV: the newest stamp that is known, what is logged; then the ends that receivers are owed unless
-- their channel or member is present
raise_stamp(ARGV[1])
local log = read_log(ARGV[2])
for i = 3, #ARGV do
  local waits = redis.call('ZSCORE', transitions, ARGV[i])
  if not waits and not is_end_of_present(ARGV[i]) then log_end(log, ARGV[i]) end
end
return 1
