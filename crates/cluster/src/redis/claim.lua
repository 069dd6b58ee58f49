-- ARGV: dead node, milliseconds. A claim only saves work: two nodes that reap the same node, as nodes
-- of two versions may, remove and announce each entry once.
local claimed = redis.call('SET', tag .. ':claim:' .. ARGV[1], '1', 'NX', 'PX', ARGV[2])
return { claimed and 1 or 0 }
