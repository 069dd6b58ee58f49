-- ARGV: deadline, idempotency key or '', digest; then for each event: channel, milliseconds to keep it or 0, most bytes kept, message
local KNOWN_FOR, ENTRY_WEIGHT = 120000, 256
local cache, expiry, weight = tag .. ':cache', tag .. ':cache:expiry', tag .. ':cache:bytes'

local function drop(channel)
  local kept = redis.call('HGET', cache, channel)
  if not kept then return end
  redis.call('HDEL', cache, channel)
  redis.call('ZREM', expiry, channel)
  redis.call('DECRBY', weight, #kept + ENTRY_WEIGHT)
end

-- What has expired goes, and the oldest while there is too much.
local function shrink(time, most)
  while true do
    local oldest = redis.call('ZRANGE', expiry, 0, 0, 'WITHSCORES')
    if not oldest[1] then return end
    local bytes = tonumber(redis.call('GET', weight) or '0')
    if tonumber(oldest[2]) > time and bytes <= most then return end
    redis.call('ZREM', expiry, oldest[1])
    drop(oldest[1])
  end
end

local function keep(channel, ttl, most, message)
  local time = math.floor(now() / 1000)
  drop(channel)
  redis.call('HSET', cache, channel, message)
  redis.call('ZADD', expiry, time + ttl, channel)
  redis.call('INCRBY', weight, #message + ENTRY_WEIGHT)
  shrink(time, most)
  for _, key in ipairs({ cache, expiry, weight }) do
    if redis.call('PTTL', key) < ttl then redis.call('PEXPIRE', key, ttl) end
  end
end

if is_late(ARGV[1]) then return LATE end
if ARGV[2] ~= '' then
  local once = tag .. ':once:' .. ARGV[2]
  local known = redis.call('GET', once)
  if known then return known == ARGV[3] and 1 or 2 end
  redis.call('SET', once, ARGV[3], 'PX', KNOWN_FOR)
end
for i = 4, #ARGV, 4 do
  local channel, ttl, message = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 3]
  if ttl > 0 then
    message = '1K' .. next_position() .. string.sub(message, 3)
    keep(channel, ttl, tonumber(ARGV[i + 2]), message)
  end
  tell(channel, message)
end
return 0
