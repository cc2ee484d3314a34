-- Deletes some of what waits. KEYS: a base, then lists of kombu's. Returns how many; less than 1000: no more is left.
-- include results.lua
-- include common.lua
local base, count = KEYS[1], 0
for _, key in ipairs({base .. ':r', base .. ':z', base .. ':q'}) do
  local popped = redis.call('ZPOPMIN', key, 1000 - count)
  local ids = {}
  for i = 1, #popped, 2 do ids[#ids + 1] = popped[i] end
  if #ids > 0 then
    if key == base .. ':q' then
      for i, blob in ipairs(redis.call('HMGET', base .. ':m', unpack(ids))) do gates().quit(base, ids[i], blob) end
    end
    redis.call('HDEL', base .. ':m', unpack(ids))
    redis.call('HDEL', base .. ':d', unpack(ids))
    count = count + #ids
  end
end
if keeper then keeper.tend() end
if count < 1000 then
  for f = 2, #KEYS do
    local gone = redis.call('LPOP', KEYS[f], 1000 - count)
    if gone then count = count + #gone end
    if count >= 1000 then break end
  end
end
return count
