-- What an incarnation holds. ARGV 5: incarnation. Returns per message queue, id, tag.
-- include head.lua
local out = {}
local record = redis.call('HGET', S .. 'incs', ARGV[5])
for _, queue in ipairs(record and cmsgpack.unpack(record)[3] or {}) do
  local held = redis.call('HGETALL', P .. '{' .. queue .. '}:h:' .. ARGV[5])
  for i = 1, #held, 2 do
    out[#out + 1] = queue
    out[#out + 1] = held[i]
    out[#out + 1] = string.match(held[i + 1], '^!?(%d+)')
  end
end
return out
