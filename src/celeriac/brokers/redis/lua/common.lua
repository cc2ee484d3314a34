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

-- The order not to run a task, while it is in force: {until, terminate, signal, state, result, expires, hand out}. With
-- the last its message is not dropped, but handed out, to be settled as revoked: others wait for it.
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

-- The rank of a stored message: its second byte is the priority (a msgpack array begins with its length).
local function rank_of(blob)
  if string.byte(blob, 1) == 75 then return 9 end
  return 9 - string.byte(blob, 2)
end
