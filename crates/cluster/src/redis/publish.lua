-- ARGV: deadline, idempotency key or '', digest, an epoch for histories that begin or '' without
-- any, this run of Redis; then for each event: channel, milliseconds to cache it or 0, most bytes
-- cached, how many events its history keeps or 0, for how many milliseconds, fingerprint of the
-- rules, message
local KNOWN_FOR, ENTRY_WEIGHT = 120000, 256
local cache, expiry, weight = tag .. ':cache', tag .. ':cache:expiry', tag .. ':cache:bytes'

local function drop(channel)
  local kept = redis.call('HGET', cache, channel)
  if not kept then return end
  redis.call('HDEL', cache, channel)
  redis.call('ZREM', expiry, channel)
  redis.call('DECRBY', weight, #kept + ENTRY_WEIGHT)
end

-- Drops what has expired, and the oldest while there is too much.
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

-- Counts an event in its history, and returns its position there.
local function record(channel, position, ttl, rules)
  local log = log_key(channel)
  begin(channel, ARGV[4], ARGV[5], rules)
  local offset = redis.call('HINCRBY', log, 'offset', 1)
  redis.call('HSET', log, 'newest', position, 'ttl', ttl)
  return redis.call('HGET', log, 'epoch') .. ':' .. string.format('%.0f', offset)
end

local function hold(channel, position, size, ttl, message)
  local events, log = events_key(channel), log_key(channel)
  redis.call('XADD', events, 'MAXLEN', size, string.format('%.0f-1', tonumber(position)), 'm', message)
  redis.call('XTRIM', events, 'MINID', string.format('%.0f', tonumber(position) - ttl * 1000))
  redis.call('PEXPIRE', events, ttl)
  redis.call('PEXPIRE', log, math.max(ttl, LOG_KEPT_FOR))
end

-- All checks come before the first write: a script that is refused has changed nothing.
if is_late(ARGV[1]) then return LATE end
if ARGV[2] ~= '' then
  local once = tag .. ':once:' .. ARGV[2]
  local known = redis.call('GET', once)
  if known then return known == ARGV[3] and 1 or 2 end
  redis.call('SET', once, ARGV[3], 'PX', KNOWN_FOR)
end
for i = 6, #ARGV, 7 do
  local channel, ttl, size, message = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 3]), ARGV[i + 6]
  if ttl > 0 or size > 0 then
    local position = next_position()
    if size > 0 then
      local place = record(channel, position, ARGV[i + 4], ARGV[i + 5])
      message = (ttl > 0 and '1J' or '1H') .. position .. #place .. ':' .. place .. string.sub(message, 3)
      hold(channel, position, size, tonumber(ARGV[i + 4]), message)
    else
      message = '1K' .. position .. string.sub(message, 3)
    end
    if ttl > 0 then keep(channel, ttl, tonumber(ARGV[i + 2]), message) end
  end
  announce(channel, message)
end
return 0
