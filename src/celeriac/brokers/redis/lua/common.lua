-- What the scripts share that deal with messages.
-- include head.lua
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

-- The rank of a stored message: its second byte is the priority (a msgpack array begins with its length). What somebody
-- else has put there, or taken away, ranks as 0: the consumer reads it, and says what is wrong.
local function rank_of(blob)
  local form, priority = string.byte(blob or '', 1, 2)
  if form == 75 or not priority or priority > 9 then return 9 end
  return 9 - priority
end
