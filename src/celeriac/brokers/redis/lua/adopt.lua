-- Moves deliveries from one incarnation to another. ARGV from 5: from, heir, the heir's tag, its lease in ms and name
-- where it may enter the space for this ('' where it is there already), tags of earlier tries whose replies were lost
-- (',3,7,', or ''), ids. What these have moved is returned as well.
-- Returns {lives, then per message id, delivery, queue, blob}.
-- include results.lua
-- include common.lua
-- include room.lua
local from, heir, tag = ARGV[5], ARGV[6], ARGV[7]
local lease, lost = ARGV[8], ARGV[10]
local mine, theirs = redis.call('HGET', S .. 'incs', heir), redis.call('HGET', S .. 'incs', from)
if not mine and lease == '' then return {0} end

-- A try that was given up may come in after the one that asks for what it moved. Nobody would ever hear of that.
local fence = S .. 'fence:' .. heir
local first = redis.call('GET', fence)
if first and tonumber(tag) < tonumber(first) then return {2} end
if lost ~= '' then redis.call('SET', fence, tag, 'PX', 86400000) end

local out = {1}
local record = mine and cmsgpack.unpack(mine) or {tonumber(lease), ARGV[9], {}}
local known = {}
for _, queue in ipairs(record[3]) do known[queue] = true end

local function hand_over(base, queue, id, hold)
  local mark, rest = string.match(hold, '^(!?)%d+(:.+)$')
  redis.call('HSET', base .. ':h:' .. heir, id, mark .. tag .. rest)
  out[#out + 1] = id
  out[#out + 1] = (redis.call('HGET', base .. ':d', id) or 0) + 1
  out[#out + 1] = queue
  out[#out + 1] = redis.call('HGET', base .. ':m', id)
end

if lost ~= '' then
  for _, queue in ipairs(record[3]) do
    local base = base_of(queue)
    for i = 11, #ARGV do
      local hold = redis.call('HGET', base .. ':h:' .. heir, ARGV[i])
      if hold and string.find(lost, ',' .. string.match(hold, '^!?(%d+)') .. ',', 1, true) then
        hand_over(base, queue, ARGV[i], hold)
      end
    end
  end
end
for _, queue in ipairs(theirs and cmsgpack.unpack(theirs)[3] or {}) do
  local base = base_of(queue)
  for i = 11, #ARGV do
    local id = ARGV[i]
    local hold = redis.call('HGET', base .. ':h:' .. from, id)
    if hold then
      redis.call('HDEL', base .. ':h:' .. from, id)
      hand_over(base, queue, id, hold)
      if not known[queue] then
        known[queue] = true
        table.insert(record[3], queue)
      end
    end
  end
end
if #out > 1 then
  redis.call('HSET', S .. 'incs', heir, cmsgpack.pack(record))
  if not mine then redis.call('ZADD', S .. 'leases', now + lease, heir) end
end
return out
