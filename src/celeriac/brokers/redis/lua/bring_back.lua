-- Puts dead letters back into their queues, or drops them. KEYS: a base per queue. ARGV from 5: 1 to put back, 0 to
-- drop, ids. An operator's word also takes back an earlier order. Returns how many there were.
-- include results.lua
-- include common.lua
-- include incoming.lua
local count = 0
for _, base in ipairs(KEYS) do
  for i = 6, #ARGV do
    local id = ARGV[i]
    local blob = redis.call('HGET', base .. ':b', id)
    if blob then
      count = count + 1
      redis.call('HDEL', base .. ':b', id)
      redis.call('HDEL', base .. ':e', id)
      redis.call('ZREM', base .. ':x', id)
      if ARGV[5] == '1' then
        redis.call('HDEL', S .. 'cancelled', id)
        redis.call('ZREM', S .. 'cancelled:until', id)
        redis.call('SREM', S .. 'cancelled:handed', id)
        if redis.call('EXISTS', S .. 'cancelled:handed') == 0 then redis.call('DEL', S .. 'handed') end
        redis.call('HSET', base .. ':m', id, blob)
        place(base, id, blob, '')
      end
    end
  end
end
if keeper then keeper.tend() end
return count
