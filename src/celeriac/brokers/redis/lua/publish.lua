-- Takes messages in. KEYS: a base per queue. ARGV from 5, per queue: how many, then for each id, due ('' at once),
-- fresh, blob. Then pairs of a list of kombu's and an envelope. Returns how many were new, and after it, for
-- each that was dropped because another holds its unique key, its id and the holder's.
-- include results.lua
-- include common.lua
local p, out, here = 5, {0}, {}

-- As `admit`, for a special message; returns its limit, too.
local function admit_special(base, id, blob, fresh)
  if fresh ~= '1' and not is_new(id) then return false end
  local limit, unique = gates().terms(blob)
  if unique then
    local holder = gates().holder(unique, here)
    if holder and holder ~= id then
      out[#out + 1] = id
      out[#out + 1] = holder
      return false
    end
  end
  if redis.call('HSETNX', base .. ':m', id, blob) == 0 then return false end
  if unique then
    gates().lock(unique, id, base)
    here[id] = true
  end
  if limit then gates().said(limit) end
  return true, limit
end

for k = 1, #KEYS do
  local base = KEYS[k]
  local count = tonumber(ARGV[p])
  p = p + 1
  local ready, in_line, n = {}, {}, 0
  for _ = 1, count do
    local id, due, blob = ARGV[p], ARGV[p + 1], ARGV[p + 3]
    local is_added, limit
    local form, priority = string.byte(blob, 1, 2)
    if form == SPECIAL then
      is_added, limit = admit_special(base, id, blob, ARGV[p + 2])
    else
      is_added = admit(base, id, blob, ARGV[p + 2])
    end
    if is_added then
      out[1] = out[1] + 1
      if due ~= '' and tonumber(due) > now then
        place(base, id, blob, due)
      else
        n = n + 1
        local to = limit and in_line or ready
        to[#to + 1] = (9 - priority) * RANK + n
        to[#to + 1] = id
        if limit then to[#to + 1] = limit end
      end
    end
    p = p + 4
  end
  if n > 0 then
    local last = redis.call('INCRBY', base .. ':n', n) - n
    for i = 1, #ready, 2 do ready[i] = ready[i] + last end
    for i = 1, #ready, 2000 do redis.call('ZADD', base .. ':r', unpack(ready, i, math.min(i + 1999, #ready))) end
    if #ready > 0 then ring(base) end
    for i = 1, #in_line, 3 do gates().join(base, in_line[i + 1], in_line[i] + last, in_line[i + 2]) end
  end
  redis.call('SADD', S .. 'queues', queue_of(base))
end
while p < #ARGV do
  redis.call('LPUSH', ARGV[p], ARGV[p + 1])
  p = p + 2
end
tend_gates()
return out
