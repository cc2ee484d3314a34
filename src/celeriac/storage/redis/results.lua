-- Results under Celery's keys: a JSON object whose "status" is the state. A final state stays (model/states.py).
-- Ours and Celery's begin with it. Other forms of Celery's (msgpack, pickle) have the word and then the state among
-- their first bytes; of what is compressed nothing can be said here, and it gives way.
local FINAL = {SUCCESS = true, FAILURE = true, REVOKED = true}

local function state_of(meta)
  local state = string.match(meta, '^{"status"%s*:%s*"([^"]*)"')
    or string.match(string.sub(meta, 1, 64), 'status[^%w"]-(%u[%u%d_]+)')
  if state then return state end
  local readable, object = pcall(cjson.decode, meta)
  if readable and type(object) == 'table' and type(object.status) == 'string' then return object.status end
  return 'STARTED'
end

local function may_follow(old, new)
  if FINAL[old] or new == 'PENDING' then return false end
  return new ~= 'RECEIVED' or old == 'PENDING' or old == 'RETRY'
end

-- Writes a result and tells who waits for it, as Celery does; false where the stored state stays. `at`: when it
-- expires, epoch milliseconds; '' keeps it. What is stored already byte for byte counts as written: a caller who lost
-- the answer asks again.
local function store(key, state, value, at)
  local done
  if at == '' then
    done = redis.call('SET', key, value, 'NX')
  else
    done = redis.call('SET', key, value, 'PXAT', at, 'NX')
  end
  if not done then
    local old = redis.call('GET', key)
    if old ~= value and not may_follow(state_of(old), state) then return false end
    if at == '' then
      redis.call('SET', key, value)
    else
      redis.call('SET', key, value, 'PXAT', at)
    end
  end
  redis.call('PUBLISH', key, value)
  return true
end
