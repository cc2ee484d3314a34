-- Results under Celery's keys: a JSON object whose "status" is the state. A final state stays (model/states.py).
local FINAL = {SUCCESS = true, FAILURE = true, REVOKED = true}

local function state_of(meta)
  return string.match(meta, '"status"%s*:%s*"([^"]*)"') or 'STARTED'
end

local function may_follow(old, new)
  if FINAL[old] or new == 'PENDING' then return false end
  return new ~= 'RECEIVED' or old == 'PENDING' or old == 'RETRY'
end

-- Writes a result and tells who waits for it, as Celery does; false where the stored state stays. `at`: when it
-- expires, epoch milliseconds; '' keeps it.
local function store(key, state, value, at)
  local done
  if at == '' then
    done = redis.call('SET', key, value, 'NX')
  else
    done = redis.call('SET', key, value, 'PXAT', at, 'NX')
  end
  if not done then
    if not may_follow(state_of(redis.call('GET', key)), state) then return false end
    if at == '' then
      redis.call('SET', key, value)
    else
      redis.call('SET', key, value, 'PXAT', at)
    end
  end
  redis.call('PUBLISH', key, value)
  return true
end
