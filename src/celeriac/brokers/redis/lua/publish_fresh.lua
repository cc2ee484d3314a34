-- Takes in messages of one queue that are ready and whose ids were made a moment ago: what `delay` and `delay_many`
-- send. The same as publish.lua without what such messages cannot need; that took half as long again.
-- KEYS: their base. ARGV: prefix of the space's keys, queue, then for each id, rank * 1e14, blob.
local base = KEYS[1]
local count = (#ARGV - 2) / 3
local n = redis.call('INCRBY', base .. ':n', count) - count
if n == 0 then redis.call('SADD', ARGV[1] .. 'queues', ARGV[2]) end
if count == 1 then
  redis.call('HSET', base .. ':m', ARGV[3], ARGV[5])
  redis.call('ZADD', base .. ':r', ARGV[4] + n + 1, ARGV[3])
else
  for first = 1, count, 1000 do
    local messages, places, at = {}, {}, 0
    for i = first, math.min(first + 999, count) do
      local p = 3 * i
      messages[at + 1], messages[at + 2] = ARGV[p], ARGV[p + 2]
      places[at + 1], places[at + 2] = ARGV[p + 1] + n + i, ARGV[p]
      at = at + 2
    end
    redis.call('HSET', base .. ':m', unpack(messages))
    redis.call('ZADD', base .. ':r', unpack(places))
  end
end
redis.call('ZADD', base .. ':w', 0, '0')
return count
