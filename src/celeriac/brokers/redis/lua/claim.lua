-- Leases messages to an incarnation, highest priority first, then in the order of the queues. KEYS: a base per queue,
-- then lists of kombu's. ARGV from 5: incarnation, limit, tag of this claim, tag of an earlier one whose reply was
-- lost (''), most bytes, number of queues, whether kombu's lists come before priority 0, per list the number of its
-- queue. Returns {lives, ms until something becomes due (-1: nothing), stamp (less than 0, -1 - stamp: some of these are
-- cancelled), then groups {number of the queue, tag, ids, blobs, earlier deliveries (nil: none)}}. A message of kombu's
-- is stored under an id of its own until the consumer has read it.
-- include results.lua
-- include common.lua
-- include ending.lua
-- include room.lua
local incarnation, left, tag, lost = ARGV[5], tonumber(ARGV[6]), ARGV[7], ARGV[8]
local room, queues = tonumber(ARGV[9]), tonumber(ARGV[10])
if not redis.call('ZSCORE', S .. 'leases', incarnation) then return {0} end

-- A claim whose reply was given up may come in after the one that asks for what it took. Nobody would ever hear of that.
local fence = S .. 'fence:' .. incarnation
local first = redis.call('GET', fence)
if first and tonumber(tag) < tonumber(first) then return {1, -1, 0} end
if lost ~= '' then redis.call('SET', fence, tag, 'PX', 86400000) end

for _, late in ipairs(redis.call('ZRANGEBYSCORE', S .. 'leases', '-inf', now, 'LIMIT', 0, 8)) do
  if late ~= incarnation then finish(late, nil) end
end

local stamp = redis.call('MGET', S .. 'stamp', S .. 'gated', S .. 'handed')
local out = {1, -1, tonumber(stamp[1] or '0')}

-- Among these may be some that are handed out though they are cancelled: the consumer must ask.
local function warn(ids)
  for _, is_one in ipairs(redis.call('SMISMEMBER', S .. 'cancelled:handed', unpack(ids))) do
    if is_one == 1 and out[3] >= 0 then out[3] = -1 - out[3] end
  end
end

local function hand_out(base, k, ids, holds, its_tag)
  if #ids == 0 then return end
  local blobs = redis.call('HMGET', base .. ':m', unpack(ids))
  local counts = redis.call('EXISTS', base .. ':d') == 1 and redis.call('HMGET', base .. ':d', unpack(ids))
  local byte = string.byte
  for i = #blobs, 1, -1 do
    if not blobs[i] then -- somebody has taken it away: there is nothing to hand out
      for _, row in ipairs({ids, blobs, counts or {}}) do table.remove(row, i) end
      if holds then
        table.remove(holds, 2 * i)
        table.remove(holds, 2 * i - 1)
      end
    end
  end
  if #ids == 0 then return end
  for i = 1, #blobs do
    room = room - #blobs[i]
    if byte(blobs[i]) == 153 and holds then
      local _, _, terms = gates().terms(blobs[i])
      holds[2 * i] = '!' .. holds[2 * i] .. ':' .. terms
    end
  end
  if stamp[3] then warn(ids) end
  out[#out + 1] = {k, its_tag, ids, blobs, counts}
  if holds then redis.call('HSET', base .. ':h:' .. incarnation, unpack(holds)) end
  left = left - #ids
end

local function take(k, most)
  local base = KEYS[k]
  while most > 0 and room > 0 do
    local got = redis.call('ZPOPMIN', base .. ':r', math.min(most, 64))
    local ids, holds = {}, {}
    for i = 1, #got, 2 do
      ids[#ids + 1] = got[i]
      holds[i] = got[i]
      holds[i + 1] = tag .. ':' .. got[i + 1]
    end
    if #ids == 0 then return end
    hand_out(base, k, ids, holds, tag)
    most = most - #ids
  end
end

if lost ~= '' then
  -- what the earlier claim took is held, and its consumer has never heard of it
  for k = 1, queues do
    local held = redis.call('HGETALL', KEYS[k] .. ':h:' .. incarnation)
    local ids = {}
    for i = 1, #held, 2 do
      local start = string.byte(held[i + 1]) == 33 and 2 or 1
      if string.sub(held[i + 1], start, start + #lost) == lost .. ':' then ids[#ids + 1] = held[i] end
    end
    hand_out(KEYS[k], k, ids, nil, lost)
  end
end

-- delayed messages that have become due are ready, in the order in which they became so; a bounded number
for k = 1, queues do
  local base = KEYS[k]
  local due = redis.call('ZRANGEBYSCORE', base .. ':z', '-inf', now, 'LIMIT', 0, 1000)
  if #due > 0 then
    local blobs = redis.call('HMGET', base .. ':m', unpack(due))
    local n = redis.call('INCRBY', base .. ':n', #due) - #due
    local add = {}
    for i, id in ipairs(due) do
      local score = rank_of(blobs[i]) * RANK + n + i
      local limit = blobs[i] and string.byte(blobs[i]) == 153 and gates().terms(blobs[i])
      if limit then
        gates().join(base, id, score, limit)
      elseif blobs[i] then
        add[#add + 1] = score
        add[#add + 1] = id
      end
    end
    if #add > 0 then redis.call('ZADD', base .. ':r', unpack(add)) end
    redis.call('ZREM', base .. ':z', unpack(due))
  end
end

local take_up_to, is_gated = nil, keeper ~= nil or stamp[2] == '1'
if is_gated then
  -- The same where heads of lines are to be met: exactly those that a walk over all due messages would take, in its
  -- order. A head whose gate is shut loses its turn, so it is met once for each time that the gate was open.
  function take_up_to(last)
    local ids, holds, blobs = {}, {}, {}

    local function flush(k)
      if #ids == 0 then return end
      local base = KEYS[k]
      local counts = redis.call('EXISTS', base .. ':d') == 1 and redis.call('HMGET', base .. ':d', unpack(ids))
      if stamp[3] then warn(ids) end
      out[#out + 1] = {k, tag, ids, blobs, counts}
      redis.call('HSET', base .. ':h:' .. incarnation, unpack(holds))
      ids, holds, blobs = {}, {}, {}
    end

    local function let_through(base)
      local popped = redis.call('ZPOPMIN', base .. ':g')
      local id, score = popped[1], popped[2]
      local blob = redis.call('HGET', base .. ':m', id)
      local limit, _, terms = gates().terms(blob)
      local key = limit[1]
      local line = base .. ':l:' .. key
      local heads = redis.call('ZRANGE', line, 0, 1, 'WITHSCORES')
      if heads[1] ~= id then return end -- a better one came; claims meet that one
      local gate = gates().find(key, limit)
      if not gates().is_open(gate) then
        gates().touch(key)
        return
      end
      gates().start(key, gate)
      redis.call('ZREM', line, id)
      redis.call('ZREM', base .. ':q', id)
      if heads[3] and gates().is_open(gate) then redis.call('ZADD', base .. ':g', heads[4], heads[3]) end
      ids[#ids + 1] = id
      holds[#holds + 1] = id
      holds[#holds + 1] = '!' .. tag .. ':' .. score .. ':' .. terms
      blobs[#blobs + 1] = blob
      left = left - 1
      room = room - #blob
    end

    local function take_rank(k, top)
      local base = KEYS[k]
      local plain = redis.call('ZRANGE', base .. ':r', 0, 0, 'WITHSCORES')[2]
      while left > 0 and room > 0 do
        local head = redis.call('ZRANGEBYSCORE', base .. ':g', '-inf', top, 'WITHSCORES', 'LIMIT', 0, 1)[2]
        if plain and (not head or tonumber(plain) < tonumber(head)) then
          local count = redis.call('ZCOUNT', base .. ':r', '-inf', head and '(' .. head or top)
          flush(k)
          if count > 0 then take(k, math.min(left, count)) end
          plain = redis.call('ZRANGE', base .. ':r', 0, 0, 'WITHSCORES')[2]
          if count == 0 and not head then return end
        elseif head then
          let_through(base)
        else
          break
        end
      end
      flush(k)
    end

    while left > 0 and room > 0 do
      local best, ranks = last + 1, {}
      for k = 1, queues do
        for _, key in ipairs({':r', ':g'}) do
          local head = redis.call('ZRANGE', KEYS[k] .. key, 0, 0, 'WITHSCORES')
          if head[2] then
            local rank = math.floor(head[2] / RANK)
            if not ranks[k] or rank < ranks[k] then ranks[k] = rank end
            if rank < best then best = rank end
          end
        end
      end
      if best > last then return end
      for k = 1, queues do
        if ranks[k] == best then take_rank(k, '(' .. string.format('%.0f', (best + 1) * RANK)) end
      end
    end
  end

  for k = 1, queues do
    local due = redis.call('ZRANGEBYSCORE', KEYS[k] .. ':t', '-inf', now, 'LIMIT', 0, 500)
    if #due > 0 then redis.call('ZREM', KEYS[k] .. ':t', unpack(due)) end
    for _, key in ipairs(due) do gates().touch(key) end
  end
  gates().tend(queues)
elseif #KEYS ~= 1 then
  -- Ready messages up to a rank, over all queues.
  function take_up_to(last)
    if queues == 1 and last == 9 then return take(1, left) end
    while left > 0 and room > 0 do
      local best, ranks = last + 1, {}
      for k = 1, queues do
        local head = redis.call('ZRANGE', KEYS[k] .. ':r', 0, 0, 'WITHSCORES')
        if head[2] then
          ranks[k] = math.floor(head[2] / RANK)
          if ranks[k] < best then best = ranks[k] end
        end
      end
      if best > last then return end
      for k = 1, queues do
        if ranks[k] == best then
          local count = redis.call('ZCOUNT', KEYS[k] .. ':r', '-inf', '(' .. string.format('%.0f', (best + 1) * RANK))
          take(k, math.min(left, count))
        end
      end
    end
  end
end

if not take_up_to then
  take(1, left)
elseif #KEYS == queues then
  take_up_to(9)
else
  local function take_foreign()
    for f = queues + 1, #KEYS do
      if left <= 0 or room <= 0 then return end
      local k = tonumber(ARGV[11 + f - queues])
      local base = KEYS[k]
      while left > 0 and room > 0 do
        local raws = redis.call('RPOP', KEYS[f], math.min(left, 64))
        if not raws or #raws == 0 then break end
        local n = redis.call('INCRBY', base .. ':n', #raws) - #raws
        local ids, holds, blobs = {}, {}, {}
        for i, raw in ipairs(raws) do
          local id = 'foreign:' .. string.format('%.0f', n + i)
          ids[i] = id
          holds[2 * i - 1] = id
          holds[2 * i] = tag .. ':' .. string.format('%.0f', 9 * RANK + n + i)
          blobs[2 * i - 1] = id
          blobs[2 * i] = 'K' .. raw
        end
        redis.call('HSET', base .. ':m', unpack(blobs))
        hand_out(base, k, ids, holds, tag)
      end
    end
  end

  if ARGV[11] == '1' then take_up_to(8) else take_up_to(9) end
  take_foreign()
  if ARGV[11] == '1' then take_up_to(9) end
end
if keeper then keeper.tend(queues) end

if left > 0 then
  local nearest = nil
  local function consider(key)
    local head = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
    if head[2] then
      local at = tonumber(head[2])
      if nearest == nil or at < nearest then nearest = at end
    end
  end
  for k = 1, queues do
    consider(KEYS[k] .. ':z')
    if is_gated then consider(KEYS[k] .. ':t') end
  end
  consider(S .. 'leases')
  if nearest then out[2] = math.max(0, math.ceil(nearest - now)) end
else
  -- the baton: there is more, so one more waiter wakes
  for k = 1, queues do
    if redis.call('EXISTS', KEYS[k] .. ':r') == 1 or is_gated and redis.call('EXISTS', KEYS[k] .. ':g') == 1 then
      ring(KEYS[k])
    end
  end
end
return out
