-- ARGV: channel, what of it, epoch or '', offset, how many, an epoch if the history begins now
local log, events = log_key(ARGV[1]), events_key(ARGV[1])
if redis.call('HSETNX', log, 'epoch', ARGV[6]) == 1 then redis.call('PEXPIRE', log, LOG_KEPT_FOR) end
local epoch = redis.call('HGET', log, 'epoch')
local newest = redis.call('HGET', log, 'newest') or '0'
local offset = tonumber(redis.call('HGET', log, 'offset') or '0')
redis.call('XTRIM', events, 'MINID', string.format('%.0f', now() - tonumber(redis.call('HGET', log, 'ttl') or '0') * 1000))
local length = redis.call('XLEN', events)
local asked, count = ARGV[2], tonumber(ARGV[5])

local function answer(messages)
  return { epoch, string.format('%.0f', offset), newest, messages }
end

-- The last `left` of the events come after the position that was asked for.
local left = length
if ARGV[3] ~= '' then
  left = offset - tonumber(ARGV[4])
  if ARGV[3] ~= epoch or left < 0 then return answer('expired') end
  if asked ~= 'backward' and left > length then return answer('too_old') end
end
local skipped, taken = 0, math.min(count, length)
if asked == 'after' then
  taken = left
elseif asked == 'forward' then
  taken = math.min(count, left)
  skipped = left - taken
elseif asked == 'backward' then
  if ARGV[3] ~= '' then skipped = math.min(left + 1, length) end
  taken = math.min(count, length - skipped)
end
local found = {}
if taken > 0 then
  local last = redis.call('XREVRANGE', events, '+', '-', 'COUNT', skipped + taken)
  for i = skipped + 1, #last do found[#found + 1] = last[i][2][2] end
end
if asked ~= 'backward' then
  for i = 1, math.floor(#found / 2) do found[i], found[#found + 1 - i] = found[#found + 1 - i], found[i] end
end
return answer(found)
