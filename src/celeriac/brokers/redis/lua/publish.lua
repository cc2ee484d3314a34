-- Takes messages in. KEYS: a base per queue. ARGV from 5, per queue: how many, then for each id, due ('' at once),
-- fresh, blob. Then pairs of a list of kombu's and an envelope, and at last what sent.lua reads. Returns how many were
-- new.
-- include results.lua
-- include common.lua
-- include sent.lua
if was_sent() then return 0 end
local p, added = 5, 0
for k = 1, #KEYS do
  local base = KEYS[k]
  local count = tonumber(ARGV[p])
  p = p + 1
  local ready = {}
  for _ = 1, count do
    local id, due, blob = ARGV[p], ARGV[p + 1], ARGV[p + 3]
    if admit(base, id, blob, ARGV[p + 2]) then
      added = added + 1
      if due ~= '' and tonumber(due) > now then
        place(base, id, blob, due)
      else
        ready[#ready + 1] = rank_of(blob) * RANK
        ready[#ready + 1] = id
      end
    end
    p = p + 4
  end
  local here = #ready / 2
  if here > 0 then
    local n = redis.call('INCRBY', base .. ':n', here) - here
    for i = 1, here do ready[2 * i - 1] = ready[2 * i - 1] + n + i end
    for i = 1, #ready, 2000 do redis.call('ZADD', base .. ':r', unpack(ready, i, math.min(i + 1999, #ready))) end
    ring(base)
  end
  redis.call('SADD', S .. 'queues', queue_of(base))
end
while p < #ARGV - 2 do
  redis.call('LPUSH', ARGV[p], ARGV[p + 1])
  p = p + 2
end
return added
