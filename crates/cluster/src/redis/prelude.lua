-- Goes before each script. KEYS[1] is the hash tag of the app, or of the installation; all keys and topics begin with it.
local tag = KEYS[1]

-- Microseconds since 1970.
local function now()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end

local LATE = { err = 'LATE it came after its deadline' }
local FORGOTTEN = { err = 'FORGOTTEN this node is not in the list of the app' }
-- The nodes that say something of an app. It is lost with what they said, so a node that is not in it has to say everything again;
-- and whoever is in it and not among the living has left something.
local enlisted = tag .. ':enlisted'

local function is_late(deadline)
  return now() > tonumber(deadline)
end

-- Why a node may not say something; nothing if it may.
local function refusal(deadline, node)
  if is_late(deadline) then return LATE end
  if redis.call('SISMEMBER', enlisted, node) == 0 then return FORGOTTEN end
end

-- Grows for ever, also when all memory was lost in between.
local function next_position()
  local key = tag .. ':position'
  local position = string.format('%020.0f', math.max(tonumber(redis.call('GET', key) or '0') + 1, now()))
  redis.call('SET', key, position)
  return position
end

local function position()
  return redis.call('GET', tag .. ':position') or '0'
end

local function tell(channel, message)
  redis.call('SPUBLISH', tag .. ':channel:' .. channel, message)
end

local function members_key(channel)
  return tag .. ':members:' .. channel
end

-- How many nodes have a user on a channel.
local function seats_key(channel)
  return tag .. ':seats:' .. channel
end

-- Whom a node has on a channel.
local function here_key(node, channel)
  return tag .. ':here:' .. node .. ':' .. channel
end

-- On which channels a node has somebody.
local function rooms_key(node)
  return tag .. ':rooms:' .. node
end

local function counts_key(node)
  return tag .. ':counts:' .. node
end

-- Says whether no node has the user there any more.
local function unseat(node, channel, user)
  local here = here_key(node, channel)
  if redis.call('SREM', here, user) == 0 then return false end
  if redis.call('EXISTS', here) == 0 then redis.call('SREM', rooms_key(node), channel) end
  if redis.call('HINCRBY', seats_key(channel), user, -1) > 0 then return false end
  redis.call('HDEL', seats_key(channel), user)
  redis.call('HDEL', members_key(channel), user)
  tell(channel, '1R' .. next_position() .. user)
  return true
end

-- Answers with the count over all nodes, before and after.
local function recount(node, channel, count)
  local mine, all = counts_key(node), tag .. ':counts'
  local before = tonumber(redis.call('HGET', all, channel) or '0')
  local after = before + count - tonumber(redis.call('HGET', mine, channel) or '0')
  if count > 0 then redis.call('HSET', mine, channel, count) else redis.call('HDEL', mine, channel) end
  if after > 0 then redis.call('HSET', all, channel, after) else redis.call('HDEL', all, channel) end
  return before, math.max(after, 0)
end

local function online_key(node)
  return tag .. ':online:' .. node
end

-- Says whether no node has the user signed in any more.
local function sign_out(node, user)
  if redis.call('SREM', online_key(node), user) == 0 then return false end
  if redis.call('HINCRBY', tag .. ':online', user, -1) > 0 then return false end
  redis.call('HDEL', tag .. ':online', user)
  redis.call('SPUBLISH', tag .. ':users', '1F' .. next_position() .. user)
  return true
end

-- A channel's history: its events in a stream, whose ids are their positions, and beside it since when it is counted (epoch), how many
-- events there were (offset) and the position of the newest. The latter stays longer: it knows that nothing was missed.
local LOG_KEPT_FOR = 86400000
-- Of one without events: anybody can begin it by asking.
local UNUSED_KEPT_FOR = 600000

-- A history is of one life of a Redis (`run`) and of the rules of the app: one that came back without its last events, and one that
-- recorded nothing for a while, begins anew.
local function begin(channel, epoch, run, rules)
  local log = tag .. ':log:' .. channel
  local of = run .. ' ' .. rules
  local was = redis.call('HGET', log, 'of')
  if was == of then return end
  if was then redis.call('DEL', log, tag .. ':events:' .. channel) end
  redis.call('HSET', log, 'of', of, 'epoch', epoch)
  redis.call('PEXPIRE', log, UNUSED_KEPT_FOR)
end

local function events_key(channel)
  return tag .. ':events:' .. channel
end

local function log_key(channel)
  return tag .. ':log:' .. channel
end
