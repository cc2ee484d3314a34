-- A beat says that it is there. KEYS: base of a scope. ARGV from 5: its name, how many ms it counts as being there (0: it
-- leaves), what it says of itself, how many ms rows that say "removed" are kept.
-- include head.lua
local base = KEYS[1]
local beats, times = base .. ':beats', base .. ':beats:until'
redis.call('HDEL', beats, ARGV[5])
redis.call('ZREM', times, ARGV[5])
for _, name in ipairs(redis.call('ZRANGEBYSCORE', times, '-inf', now)) do
  redis.call('HDEL', beats, name)
  redis.call('ZREM', times, name)
end
if tonumber(ARGV[6]) > 0 then
  redis.call('HSET', beats, ARGV[5], ARGV[7])
  redis.call('ZADD', times, now + ARGV[6], ARGV[5])
end
for _, name in ipairs(redis.call('ZRANGEBYSCORE', base .. ':removed', '-inf', '(' .. string.format('%.0f', now - ARGV[8]))) do
  redis.call('HDEL', base .. ':rows', name)
  redis.call('ZREM', base .. ':changes', name)
  redis.call('ZREM', base .. ':removed', name)
end
return 1
