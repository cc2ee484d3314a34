-- What the scripts share. ARGV: 1 prefix of all keys, 2 prefix of the space's keys, 3 prefix of result keys ('' where
-- results live elsewhere), 4 the time in epoch milliseconds ('' asks the server). What the keys hold: broker.py.
local P, S, R, now = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
if not now then
  local t = redis.call('TIME')
  now = t[1] * 1000 + math.floor(t[2] / 1000)
end
-- A score is rank * 1e14 + sequence; rank 0 is priority 9. Doubles are exact up to 9e15.
local RANK = 1e14

local function base_of(queue) return P .. '{' .. queue .. '}' end
local function queue_of(base) return string.sub(base, #P + 2, -2) end

local function ring(base) redis.call('ZADD', base .. ':w', 0, '0') end

-- include gates.lua

-- The order not to run a task, while it is in force: {until, terminate, signal, state, result, expires}.
local has_orders = nil
local function ordered(id)
  if has_orders == nil then has_orders = redis.call('EXISTS', S .. 'cancelled') == 1 end
  if not has_orders then return nil end
  local packed = redis.call('HGET', S .. 'cancelled', id)
  if not packed then return nil end
  local order = cmsgpack.unpack(packed)
  if order[1] > now then return order end
  return nil
end

-- A cancelled message is dropped here: nobody else can know, so its result is stored here, too.
local function revoked(id, order)
  if R ~= '' and order[4] ~= '' then store(R .. id, order[4], order[5], order[6]) end
end

local function lives(id)
  for _, queue in ipairs(redis.call('SMEMBERS', S .. 'queues')) do
    local base = base_of(queue)
    if redis.call('HEXISTS', base .. ':m', id) == 1 or redis.call('HEXISTS', base .. ':b', id) == 1 then
      return true
    end
  end
  return false
end

-- Whether a message that may have been here before is to be taken in.
local function is_new(id)
  if lives(id) then return false end
  if R ~= '' then
    local meta = redis.call('GET', R .. id)
    if meta and FINAL[state_of(meta)] then return false end
  end
  local order = ordered(id)
  if order then
    revoked(id, order)
    return false
  end
  return true
end

local function admit(base, id, blob, fresh)
  if fresh ~= '1' and not is_new(id) then return false end
  return redis.call('HSETNX', base .. ':m', id, blob) == 1
end

-- The rank of a stored message: its second byte is the priority (a msgpack array begins with its length).
local function rank_of(blob)
  if string.byte(blob, 1) == 75 then return 9 end
  return 9 - string.byte(blob, 2)
end

-- Puts a message that `m` holds behind its like, or among the delayed ones.
local function place(base, id, blob, due)
  if due ~= '' and tonumber(due) > now then
    redis.call('ZADD', base .. ':z', due, id)
    if redis.call('ZRANK', base .. ':z', id) == 0 then ring(base) end
    return
  end
  local score = rank_of(blob) * RANK + redis.call('INCR', base .. ':n')
  local limit = string.byte(blob) == SPECIAL and gates().terms(blob)
  if limit then
    gates().join(base, id, score, limit)
  else
    redis.call('ZADD', base .. ':r', score, id)
    ring(base)
  end
end

-- Puts a message that was held back where it was; `hold` is tag:score, or that of a special one, whose slot is free.
local function give_back(base, id, hold, counted)
  local order = ordered(id)
  if order then
    redis.call('HDEL', base .. ':m', id)
    redis.call('HDEL', base .. ':d', id)
    revoked(id, order)
    return
  end
  if counted then redis.call('HINCRBY', base .. ':d', id, 1) end
  local score = string.match(hold, ':([^:]+)')
  local limit = string.byte(hold) == 33 and gates().held(hold)
  if limit then
    gates().join(base, id, score, limit)
  else
    redis.call('ZADD', base .. ':r', score, id)
  end
end

-- Ends an incarnation: all it holds goes back. `running`: ids whose delivery stays counted; nil: all.
local function finish(incarnation, running)
  local record = redis.call('HGET', S .. 'incs', incarnation)
  if not record then return 0 end
  local returned = 0
  for _, queue in ipairs(cmsgpack.unpack(record)[3]) do
    local base = base_of(queue)
    local held = redis.call('HGETALL', base .. ':h:' .. incarnation)
    for i = 1, #held, 2 do
      if string.byte(held[i + 1]) == 33 then gates().vacate(held[i + 1]) end
      give_back(base, held[i], held[i + 1], running == nil or running[held[i]] == true)
      returned = returned + 1
    end
    if #held > 0 then
      redis.call('DEL', base .. ':h:' .. incarnation)
      ring(base)
    end
  end
  redis.call('HDEL', S .. 'incs', incarnation)
  redis.call('ZREM', S .. 'leases', incarnation)
  -- whoever waits under this incarnation must learn that it ended
  redis.call('ZADD', S .. 'bell:' .. incarnation, 0, '0')
  redis.call('PEXPIRE', S .. 'bell:' .. incarnation, 60000)
  return returned
end

-- Lets delayed messages that have become due run, in the order in which they did; bounded.
local function promote(base)
  local due = redis.call('ZRANGEBYSCORE', base .. ':z', '-inf', now, 'LIMIT', 0, 1000)
  if #due == 0 then return end
  local blobs = redis.call('HMGET', base .. ':m', unpack(due))
  local n = redis.call('INCRBY', base .. ':n', #due) - #due
  local add = {}
  for i, id in ipairs(due) do
    local score = rank_of(blobs[i]) * RANK + n + i
    local limit = string.byte(blobs[i]) == SPECIAL and gates().terms(blobs[i])
    if limit then
      gates().join(base, id, score, limit)
    else
      add[#add + 1] = score
      add[#add + 1] = id
    end
  end
  if #add > 0 then redis.call('ZADD', base .. ':r', unpack(add)) end
  redis.call('ZREM', base .. ':z', unpack(due))
end
