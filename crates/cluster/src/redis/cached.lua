-- ARGV: channel
local left = tonumber(redis.call('ZSCORE', tag .. ':cache:expiry', ARGV[1]) or '0') - now() / 1000
local kept = redis.call('HGET', tag .. ':cache', ARGV[1])
if left <= 0 or not kept then return false end
return { math.ceil(left), kept }
