-- Takes in one message that is ready and whose id was made a moment ago: what most calls of `delay` are. The same as
-- publish.lua without what such a message cannot need; that took half as long again.
-- KEYS: its base. ARGV: prefix of the space's keys, queue, id, rank * 1e14, blob. Returns 1; 0 when the id is known.
local base = KEYS[1]
if redis.call('HSETNX', base .. ':m', ARGV[3], ARGV[5]) == 0 then return 0 end
local n = redis.call('INCR', base .. ':n')
if n == 1 then redis.call('SADD', ARGV[1] .. 'queues', ARGV[2]) end
redis.call('ZADD', base .. ':r', ARGV[4] + n, ARGV[3])
redis.call('ZADD', base .. ':w', 0, '0')
return 1
