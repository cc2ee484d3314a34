-- Renews leases. ARGV from 5: incarnations. Returns those that have none.
-- include results.lua
-- include common.lua
-- include room.lua
local lost = {}
for i = 5, #ARGV do
  local record = redis.call('HGET', S .. 'incs', ARGV[i])
  if record then
    redis.call('ZADD', S .. 'leases', now + cmsgpack.unpack(record)[1], ARGV[i])
  else
    lost[#lost + 1] = ARGV[i]
  end
end
return lost
