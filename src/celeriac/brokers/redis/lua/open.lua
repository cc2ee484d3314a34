-- Begins the lease of an incarnation. ARGV from 5: incarnation, lease in ms, node name, its queues.
-- Returns the stamp; -1 when it consumes already.
-- include results.lua
-- include common.lua
-- include room.lua
if redis.call('HEXISTS', S .. 'incs', ARGV[5]) == 1 then return -1 end
local queues = {}
for i = 8, #ARGV do
  queues[#queues + 1] = ARGV[i]
  redis.call('SADD', S .. 'queues', ARGV[i])
end
redis.call('HSET', S .. 'incs', ARGV[5], cmsgpack.pack({tonumber(ARGV[6]), ARGV[7], queues}))
redis.call('ZADD', S .. 'leases', now + ARGV[6], ARGV[5])
return tonumber(redis.call('GET', S .. 'stamp') or '0')
