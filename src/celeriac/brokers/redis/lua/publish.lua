-- Takes messages in. KEYS: a base per queue. ARGV from 5, per queue: how many, then for each id, due ('' at once),
-- fresh, blob. Then pairs of a list of kombu's and an envelope, and at last what sent.lua reads. Returns how many were
-- new; where some were dropped because others hold their unique keys, a list instead: the id of each and its holder's.
-- include results.lua
-- include common.lua
-- include incoming.lua
-- include sent.lua
local p, added, dropped, here = 5, 0, nil, nil
if was_sent() then
  -- all is done but to say which of them were dropped
  for k = 1, #KEYS do
    for i = p + 1, p + 4 * ARGV[p], 4 do
      local id, blob = ARGV[i], ARGV[i + 3]
      if string.byte(blob, 1) == 153 and redis.call('HEXISTS', KEYS[k] .. ':m', id) == 0 then
        local _, unique = gates().terms(blob)
        local holder = unique and gates().holder(unique, {})
        if holder and holder ~= id then
          dropped = dropped or {}
          dropped[#dropped + 1] = id
          dropped[#dropped + 1] = holder
        end
      end
    end
    p = p + 1 + 4 * ARGV[p]
  end
  return dropped or 0
end
for k = 1, #KEYS do
  local base = KEYS[k]
  local count = tonumber(ARGV[p])
  p = p + 1
  local ready, in_line, n = {}, nil, 0
  for _ = 1, count do
    local id, due, blob = ARGV[p], moment(ARGV[p + 1]), ARGV[p + 3]
    local is_added, at_once, limit
    local form, priority = string.byte(blob, 1, 2)
    if form == 153 then
      local holder
      here = here or {}
      is_added, at_once, limit, holder = gates().admit(base, id, blob, ARGV[p + 2] ~= '1' and is_new, here)
      if holder then
        dropped = dropped or {}
        dropped[#dropped + 1] = id
        dropped[#dropped + 1] = holder
      end
    else
      is_added, at_once = admit(base, id, blob, ARGV[p + 2])
    end
    if is_added then
      added = added + 1
      if due ~= '' and not at_once and tonumber(due) > now then
        place(base, id, blob, due)
      else
        n = n + 1
        local score = (9 - priority) * RANK + n
        if limit then
          in_line = in_line or {}
          table.insert(in_line, {id, score, limit})
        else
          ready[#ready + 1] = score
          ready[#ready + 1] = id
        end
      end
    end
    p = p + 4
  end
  if n > 0 then
    local last = redis.call('INCRBY', base .. ':n', n) - n
    for i = 1, #ready, 2 do ready[i] = ready[i] + last end
    for i = 1, #ready, 2000 do redis.call('ZADD', base .. ':r', unpack(ready, i, math.min(i + 1999, #ready))) end
    if #ready > 0 then ring(base) end
    if in_line then
      for _, each in ipairs(in_line) do gates().join(base, each[1], each[2] + last, each[3]) end
    end
  end
  redis.call('SADD', S .. 'queues', queue_of(base))
end
while p < #ARGV - 2 do
  redis.call('LPUSH', ARGV[p], ARGV[p + 1])
  p = p + 2
end
if keeper then keeper.tend() end
return dropped or added
