-- ARGV: channel, kind of query, epoch or '', offset, how many, an epoch if the history begins now,
-- this run of Redis, fingerprint of the rules, most bytes
local PART = 100
local log, events = log_key(ARGV[1]), events_key(ARGV[1])
begin(ARGV[1], ARGV[6], ARGV[7], ARGV[8])
local epoch = redis.call('HGET', log, 'epoch')
local newest = redis.call('HGET', log, 'newest') or '0'
local offset = tonumber(redis.call('HGET', log, 'offset') or '0')
redis.call('XTRIM', events, 'MINID', string.format('%.0f', now() - tonumber(redis.call('HGET', log, 'ttl') or '0') * 1000))
local length = redis.call('XLEN', events)
local asked, count, room = ARGV[2], tonumber(ARGV[5]), tonumber(ARGV[9])

local function answer(messages)
  return { epoch, string.format('%.0f', offset), newest, messages }
end

-- The last `left` events come after the position in the query.
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

-- Newest first, a part at a time, so that no client makes Redis read more than it can get.
local found, bytes, seen, before = {}, 0, 0, '+'
while #found < taken do
  local part = redis.call('XREVRANGE', events, before, '-', 'COUNT', math.min(PART, skipped + taken - seen))
  if #part == 0 then break end
  for _, entry in ipairs(part) do
    seen = seen + 1
    if seen > skipped then
      bytes = bytes + #entry[2][2]
      if bytes > room then
        if asked == 'after' then return answer('too_large') end
        if asked == 'last' then taken = #found break end
      end
      found[#found + 1] = entry[2][2]
    end
  end
  before = '(' .. part[#part][1]
end
if asked ~= 'backward' then
  for i = 1, math.floor(#found / 2) do found[i], found[#found + 1 - i] = found[#found + 1 - i], found[i] end
end
return answer(found)
