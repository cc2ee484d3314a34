-- How what was held comes back. After common.lua.

-- Puts a message that was held back where it was; `hold` is tag:score, or that of a special one, whose slot is free.
local function give_back(base, id, hold, counted)
  local order = ordered(id)
  if order and not order[7] then
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
