-- Precedes each script. KEYS[1] is the hash tag of the app or of the installation, with which all
-- keys and topics begin.
local tag = KEYS[1]

-- Returns the time in microseconds since 1970.
local function now()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end

local LATE = { err = 'LATE it came after its deadline' }
local OTHER = { err = 'OTHER another installation is here' }
local FORGOTTEN = { err = 'FORGOTTEN this node is not in the list of the app' }
-- The nodes that may have entries in an app. The list is lost together with their entries, so a
-- node that is missing has to announce everything again; and a listed node that is not alive has
-- left entries behind.
local enlisted = tag .. ':enlisted'

local function is_late(deadline)
  return now() > tonumber(deadline)
end

-- Returns why a node may not report, or nothing if it may.
local function refusal(deadline, node)
  if is_late(deadline) then return LATE end
  if redis.call('SISMEMBER', enlisted, node) == 0 then return FORGOTTEN end
end

-- Returns the next position. It grows forever, even if all memory was lost in between, because it
-- is never below the clock.
local function next_position()
  local key = tag .. ':position'
  local position = string.format('%020.0f', math.max(tonumber(redis.call('GET', key) or '0') + 1, now()))
  redis.call('SET', key, position)
  return position
end

local function position()
  return redis.call('GET', tag .. ':position') or '0'
end

local function announce(channel, message)
  redis.call('SPUBLISH', tag .. ':channel:' .. channel, message)
end

local function members_key(channel)
  return tag .. ':members:' .. channel
end

-- Hash: how many nodes have a user on a channel.
local function seats_key(channel)
  return tag .. ':seats:' .. channel
end

-- Set: the users that a node has on a channel.
local function here_key(node, channel)
  return tag .. ':here:' .. node .. ':' .. channel
end

-- Set: the presence channels on which a node has users.
local function rooms_key(node)
  return tag .. ':rooms:' .. node
end

local function counts_key(node)
  return tag .. ':counts:' .. node
end

-- The app's transition log: what became present or absent over all nodes, until receivers are told. A
-- member is a letter, the channel and, after a space, the user; its score is the millisecond from which
-- on it is due. The letters are in the order of what is due at once: a channel is occupied (a), a user
-- added (b), a user removed (c), a channel vacated (d).
local transitions = tag .. ':transitions'
local newest_stamp = transitions .. ':stamp'
local refused_transitions = transitions .. ':refused'
-- How much later a user is added than the channel is occupied, and a channel vacated than its users are
-- removed, in milliseconds. Both are reported almost at once, in either order.
local ORDER_DELAY = 50

local NO_LOG = { channels = false, members = false }

-- Reads what the app wants in its log: nothing if it is '', else 'c' for channels and 'm' for members,
-- the milliseconds within which who left may return, and the most entries.
local function read_log(text)
  if text == '' then return NO_LOG end
  local wanted, grace, most = string.match(text, '^(%a*) (%d+) (%d+)$')
  return {
    channels = string.find(wanted, 'c', 1, true) ~= nil,
    members = string.find(wanted, 'm', 1, true) ~= nil,
    grace = tonumber(grace),
    most = tonumber(most),
  }
end

local function is_subscribed(channel)
  return redis.call('HEXISTS', tag .. ':counts', channel) == 1
end

-- Returns whether an entry says that a channel or user is absent that is present. A channel with members is
-- occupied even if no node has reported its subscriptions yet.
local function is_end_of_present(entry)
  local kind, channel, user = string.match(entry, '^(.)([^ ]*) ?(.*)$')
  if kind == 'c' then return redis.call('HEXISTS', seats_key(channel), user) == 1 end
  if kind == 'd' then return is_subscribed(channel) or redis.call('EXISTS', seats_key(channel)) == 1 end
  return false
end

-- Adds the entry of a transition that is due after `delay`, and not before `earliest`. One that waits already
-- becomes due anew: it may have been read, and what is settled then is the transition before this one.
local function add_transition(log, entry, delay, earliest)
  if redis.call('ZCARD', transitions) >= log.most and not redis.call('ZSCORE', transitions, entry) then
    redis.call('INCR', refused_transitions)
    return
  end
  redis.call('ZADD', transitions, math.max(math.floor(now() / 1000) + delay, earliest), entry)
end

-- Logs that a channel or user became absent. What waits of its beginning stays, so that a short visit is
-- told as both, in this order even if the clock was set back in between.
local function log_end(log, entry)
  local is_channel, rest = string.sub(entry, 1, 1) == 'd', string.sub(entry, 2)
  local begun = redis.call('ZSCORE', transitions, (is_channel and 'a' or 'b') .. rest)
  add_transition(log, entry, log.grace + (is_channel and ORDER_DELAY or 0), tonumber(begun or '0'))
end

-- Logs that a channel has members or subscriptions. If it had others before, that is no transition, and an entry
-- that waits stays as it is.
local function log_occupied(log, channel, had_others)
  if had_others and redis.call('ZSCORE', transitions, 'a' .. channel) then return end
  redis.call('ZREM', transitions, 'd' .. channel)
  add_transition(log, 'a' .. channel, 0, 0)
end

local function log_added(log, channel, user)
  redis.call('ZREM', transitions, 'c' .. channel .. ' ' .. user)
  add_transition(log, 'b' .. channel .. ' ' .. user, ORDER_DELAY, 0)
end

-- Returns the stamp of a read, which is higher than that of every read before.
local function next_stamp()
  local stamp = string.format('%.0f', math.max(tonumber(redis.call('GET', newest_stamp) or '0') + 1, now()))
  redis.call('SET', newest_stamp, stamp)
  return stamp
end

-- Makes the stamps from now on higher than one that is known.
local function raise_stamp(known)
  if tonumber(known) > tonumber(redis.call('GET', newest_stamp) or '0') then redis.call('SET', newest_stamp, known) end
end

-- Removes a user of a node from a channel, and returns whether no node has the user there any more.
local function unseat(node, channel, user, log)
  local here = here_key(node, channel)
  if redis.call('SREM', here, user) == 0 then return false end
  if redis.call('EXISTS', here) == 0 then redis.call('SREM', rooms_key(node), channel) end
  if redis.call('HINCRBY', seats_key(channel), user, -1) > 0 then return false end
  redis.call('HDEL', seats_key(channel), user)
  redis.call('HDEL', members_key(channel), user)
  announce(channel, '1R' .. next_position() .. user)
  if log.members then log_end(log, 'c' .. channel .. ' ' .. user) end
  -- While nodes still report subscriptions, the report of the last one's end decides.
  if log.channels and redis.call('EXISTS', seats_key(channel)) == 0 and not is_subscribed(channel) then
    log_end(log, 'd' .. channel)
  end
  return true
end

-- Sets a node's count of a channel, and returns the count over all nodes, before and after.
local function recount(node, channel, count, log)
  local mine, all = counts_key(node), tag .. ':counts'
  local before = tonumber(redis.call('HGET', all, channel) or '0')
  local after = before + count - tonumber(redis.call('HGET', mine, channel) or '0')
  if count > 0 then redis.call('HSET', mine, channel, count) else redis.call('HDEL', mine, channel) end
  if after > 0 then redis.call('HSET', all, channel, after) else redis.call('HDEL', all, channel) end
  if log.channels and before == 0 and after > 0 then
    log_occupied(log, channel, redis.call('EXISTS', seats_key(channel)) == 1)
  end
  -- While the channel has members, the last one's leave decides.
  if log.channels and before > 0 and after <= 0 and redis.call('EXISTS', seats_key(channel)) == 0 then
    log_end(log, 'd' .. channel)
  end
  return before, math.max(after, 0)
end

local function online_key(node)
  return tag .. ':online:' .. node
end

-- Signs a user of a node out, and returns whether no node has the user signed in any more.
local function sign_out(node, user)
  if redis.call('SREM', online_key(node), user) == 0 then return false end
  if redis.call('HINCRBY', tag .. ':online', user, -1) > 0 then return false end
  redis.call('HDEL', tag .. ':online', user)
  redis.call('SPUBLISH', tag .. ':users', '1F' .. next_position() .. user)
  return true
end

-- A channel's history: its events are in a stream, whose ids are their positions. A hash beside it
-- has the epoch, how many events there were (offset) and the position of the newest. The hash is
-- kept longer than the events, so that a client that missed nothing learns that.
local LOG_KEPT_FOR = 86400000
-- A history without events is kept only briefly, because any client can begin one by asking.
local UNUSED_KEPT_FOR = 600000

-- A history belongs to one run of Redis (`run`) and to the app's rules. One that came back without
-- its last events, or for which nothing was recorded for a while, begins again.
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
