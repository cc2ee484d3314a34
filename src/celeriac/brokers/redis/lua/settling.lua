-- Ends deliveries. KEYS: a base per queue with deliveries, then bases of other queues that messages go to.
-- ARGV from 5: incarnation, number of queues with deliveries; per such queue: n, their tag, n ids (where the tag is '',
-- n tags), then n records: "kind state expires" (state: of the result, - for none; expires: of the result, - for never),
-- then the result if there is one; for kind L number of the queue, due, blob; for kind B what is known of the death.
-- Kinds: D done, L later, R release, S release that was spent, B bury.
-- Leaves in `answers` '1' for each that was held and '0' for each that was not, of which nothing was stored; `p` is
-- behind the last record.
-- include results.lua
-- include common.lua
-- include incoming.lua
-- include returning.lua
-- include room.lua
local incarnation, p = ARGV[5], 7
local answers = {}
local header, kind, state, expires
for k = 1, tonumber(ARGV[6]) do
  local base = KEYS[k]
  local hold_key = base .. ':h:' .. incarnation
  local n, common = tonumber(ARGV[p]), ARGV[p + 1]
  local ids, tags = p + 1, p + 1 + n
  local holds = redis.call('HMGET', hold_key, unpack(ARGV, ids + 1, ids + n))
  local counted = redis.call('EXISTS', base .. ':d') == 1
  local seen, gone = {}, {}
  p = tags + 1
  local prefix = common .. ':'
  if common == '' then p = p + n end
  -- all of them leave the incarnation first: a successor may have the id of one of them
  local mine, special = {}, nil
  for i = 1, n do
    local id, hold = ARGV[ids + i], holds[i]
    if common == '' then prefix = ARGV[tags + i] .. ':' end
    if hold and not seen[id] then
      local is_mine = string.sub(hold, 1, #prefix) == prefix
      if not is_mine and string.byte(hold) == 33 and string.sub(hold, 2, #prefix + 1) == prefix then
        is_mine = true
        special = special or {}
        special[i] = {gates().vacate(hold)}
      end
      if is_mine then
        seen[id] = true
        mine[i] = hold
        gone[#gone + 1] = id
      end
    end
  end
  if #gone > 0 then redis.call('HDEL', hold_key, unpack(gone)) end
  local ended = {}
  for i = 1, n do
    local id, hold = ARGV[ids + i], mine[i]
    if ARGV[p] ~= header then
      header = ARGV[p]
      kind, state, expires = string.match(header, '^(%u) (%S+) (%S+)$')
      if expires == '-' then expires = '' end
    end
    p = p + 1
    local result = ARGV[p]
    if state ~= '-' then p = p + 1 end
    if hold then
      answers[#answers + 1] = '1'
      if state ~= '-' and R ~= '' then store(R .. id, state, result, expires) end
      local terms = special and special[i]
      if terms and terms[2] and (kind == 'D' or kind == 'B') then gates().unlock(terms[2], id) end
      if kind == 'D' then
        ended[#ended + 1] = id
      elseif kind == 'L' then
        local target, due, blob = KEYS[tonumber(ARGV[p])], ARGV[p + 1], ARGV[p + 2]
        redis.call('HDEL', base .. ':m', id)
        if counted then redis.call('HDEL', base .. ':d', id) end
        local order = ordered(id)
        if order and not order[7] then
          revoked(id, order)
        else
          if order then due = '' end
          local own = string.byte(blob) == 153 and gates().terms(blob)
          if own then gates().said(own) end
          if own or terms then blob = gates().inherit(blob, terms and terms[3]) end
          if terms and terms[2] and target ~= base then gates().unlock(terms[2], id, target) end
          redis.call('HSET', target .. ':m', id, blob)
          redis.call('SADD', S .. 'queues', queue_of(target))
          place(target, id, blob, due)
        end
      elseif kind == 'B' then
        redis.call('HSET', base .. ':b', id, redis.call('HGET', base .. ':m', id))
        redis.call('HSET', base .. ':e', id, ARGV[p])
        redis.call('ZADD', base .. ':x', now, id)
        redis.call('HDEL', base .. ':m', id)
        if counted then redis.call('HDEL', base .. ':d', id) end
      else
        give_back(base, id, hold, kind == 'S')
        ring(base)
      end
    else
      answers[#answers + 1] = '0'
    end
    if kind == 'L' then p = p + 3 elseif kind == 'B' then p = p + 1 end
  end
  if #ended > 0 then
    redis.call('HDEL', base .. ':m', unpack(ended))
    if counted then redis.call('HDEL', base .. ':d', unpack(ended)) end
  end
end
