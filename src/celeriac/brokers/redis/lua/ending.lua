-- How an incarnation ends. After common.lua.
-- include returning.lua

-- Ends an incarnation: all it holds goes back. `running`: ids whose delivery stays counted; nil: all.
local function finish(incarnation, running)
  local record = redis.call('HGET', S .. 'incs', incarnation)
  if not record then return 0 end
  local returned = 0
  for _, queue in ipairs(cmsgpack.unpack(record)[3]) do
    local base = base_of(queue)
    local held = redis.call('HGETALL', base .. ':h:' .. incarnation)
    for i = 1, #held, 2 do
      if string.byte(held[i + 1]) == 33 then gates().vacate(held[i + 1]) end
      give_back(base, held[i], held[i + 1], running == nil or running[held[i]] == true)
      returned = returned + 1
    end
    if #held > 0 then
      redis.call('DEL', base .. ':h:' .. incarnation)
      ring(base)
    end
  end
  redis.call('HDEL', S .. 'incs', incarnation)
  redis.call('ZREM', S .. 'leases', incarnation)
  redis.call('DEL', S .. 'fence:' .. incarnation)
  -- whoever waits under this incarnation must learn that it ended
  redis.call('ZADD', S .. 'bell:' .. incarnation, 0, '0')
  redis.call('PEXPIRE', S .. 'bell:' .. incarnation, 60000)
  return returned
end
