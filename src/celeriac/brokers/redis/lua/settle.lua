-- Ends deliveries. KEYS: a base per queue with deliveries, then bases of other queues that messages go to.
-- ARGV from 5: incarnation, number of queues with deliveries; per such queue: n, n ids, n tags, then n records of
-- kind, result's state ('' none), result, its expiry, number of successors; for kind L number of the queue, due, blob;
-- for kind B what is known of the death; then the successors: number of the queue, id, due, fresh, blob (number 0: a
-- list of kombu's, '', '', envelope). Kinds: D done, L later, R release, S release that was spent, B bury.
-- Returns a string with '1' for each that was held and '0' for each that was not, of which nothing was stored.
-- include results.lua
-- include common.lua
local incarnation, p = ARGV[5], 7
local answers = {}
for k = 1, tonumber(ARGV[6]) do
  local base = KEYS[k]
  local hold_key = base .. ':h:' .. incarnation
  local n = tonumber(ARGV[p])
  local ids, tags = p, p + n
  local holds = redis.call('HMGET', hold_key, unpack(ARGV, p + 1, p + n))
  local counted = redis.call('EXISTS', base .. ':d') == 1
  local seen, gone = {}, {}
  p = p + 2 * n + 1
  -- all of them leave the incarnation first: a successor may have the id of one of them
  local mine = {}
  for i = 1, n do
    local id, tag, hold = ARGV[ids + i], ARGV[tags + i], holds[i]
    if hold and not seen[id] and string.sub(hold, 1, #tag + 1) == tag .. ':' then
      seen[id] = true
      mine[i] = hold
      gone[#gone + 1] = id
    end
  end
  if #gone > 0 then redis.call('HDEL', hold_key, unpack(gone)) end
  local ended = {}
  for i = 1, n do
    local id, hold = ARGV[ids + i], mine[i]
    local kind, state, successors = ARGV[p], ARGV[p + 1], tonumber(ARGV[p + 4])
    local result, expires = p + 2, p + 3
    p = p + 5
    if hold then
      answers[#answers + 1] = '1'
      if state ~= '' and R ~= '' then store(R .. id, state, ARGV[result], ARGV[expires]) end
      if kind == 'D' then
        if successors > 0 then
          redis.call('HDEL', base .. ':m', id)
          if counted then redis.call('HDEL', base .. ':d', id) end
        else
          ended[#ended + 1] = id
        end
      elseif kind == 'L' then
        local target, due, blob = KEYS[tonumber(ARGV[p])], ARGV[p + 1], ARGV[p + 2]
        redis.call('HDEL', base .. ':m', id)
        if counted then redis.call('HDEL', base .. ':d', id) end
        local order = ordered(id)
        if order then
          revoked(id, order)
        else
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
    for _ = 1, successors do
      if hold then
        local target = tonumber(ARGV[p])
        if target == 0 then
          redis.call('LPUSH', ARGV[p + 1], ARGV[p + 4])
        elseif admit(KEYS[target], ARGV[p + 1], ARGV[p + 4], ARGV[p + 3]) then
          redis.call('SADD', S .. 'queues', queue_of(KEYS[target]))
          place(KEYS[target], ARGV[p + 1], ARGV[p + 4], ARGV[p + 2])
        end
      end
      p = p + 5
    end
  end
  if #ended > 0 then
    redis.call('HDEL', base .. ':m', unpack(ended))
    if counted then redis.call('HDEL', base .. ':d', unpack(ended)) end
  end
end
return table.concat(answers)
