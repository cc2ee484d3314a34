-- How messages come in. After common.lua.
local function lives(id)
  for _, queue in ipairs(redis.call('SMEMBERS', S .. 'queues')) do
    local base = base_of(queue)
    if redis.call('HEXISTS', base .. ':m', id) == 1 or redis.call('HEXISTS', base .. ':b', id) == 1 then
      return true
    end
  end
  return false
end

-- Whether a message that may have been here before is to be taken in; and whether at once, whenever it is due. One that
-- was revoked before it came, and that others wait for, is taken in to be handed out.
local function is_new(id)
  if lives(id) then return false end
  local order = ordered(id)
  if R ~= '' then
    local meta = redis.call('GET', R .. id)
    local state = meta and state_of(meta)
    if state and FINAL[state] and not (state == 'REVOKED' and order and order[7]) then return false end
  end
  if order and not order[7] then
    revoked(id, order)
    return false
  end
  return true, order ~= nil
end

-- As is_new, and takes it in.
local function admit(base, id, blob, fresh)
  local is_added, at_once = true, false
  if fresh ~= '1' then is_added, at_once = is_new(id) end
  return is_added and redis.call('HSETNX', base .. ':m', id, blob) == 1, at_once
end

-- When a message is due in our time. What begins with a plus is so many milliseconds from now.
local function moment(due)
  if string.byte(due) == 43 then return string.format('%.0f', now + tonumber(due)) end
  return due
end

-- Puts a message that `m` holds behind its like, or among the delayed ones.
local function place(base, id, blob, due)
  due = moment(due)
  if due ~= '' and tonumber(due) > now then
    redis.call('ZADD', base .. ':z', due, id)
    if redis.call('ZRANK', base .. ':z', id) == 0 then ring(base) end
    return
  end
  local score = rank_of(blob) * RANK + redis.call('INCR', base .. ':n')
  local limit = string.byte(blob) == 153 and gates().terms(blob)
  if limit then
    gates().join(base, id, score, limit)
  else
    redis.call('ZADD', base .. ':r', score, id)
    ring(base)
  end
end
