-- Dead letters, newest first in each queue. KEYS: a base per queue. ARGV from 5: limit, then ids (none: all).
-- Returns rows {number of the queue, id, when, what is known, blob}.
-- include results.lua
-- include common.lua
local out = {}
for k, base in ipairs(KEYS) do
  local rows = {}
  if #ARGV > 5 then
    for i = 6, #ARGV do
      local at = redis.call('ZSCORE', base .. ':x', ARGV[i])
      if at then
        rows[#rows + 1] = ARGV[i]
        rows[#rows + 1] = at
      end
    end
  else
    rows = redis.call('ZREVRANGE', base .. ':x', 0, ARGV[5] - 1, 'WITHSCORES')
  end
  for i = 1, #rows, 2 do
    out[#out + 1] = {k, rows[i], rows[i + 1], redis.call('HGET', base .. ':e', rows[i]), redis.call('HGET', base .. ':b', rows[i])}
  end
end
return out
