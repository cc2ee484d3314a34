-- Limited and unique messages. Part of common.lua; the keys are listed in broker.py, the reasons are in ADR 0010.
-- A stored message that is special begins with the byte 153, an array of nine: priority, its limit {key, how many at
-- once (0: any number), ms between starts (0: no rate), burst} or nil, what makes it unique {key, ms, only until its
-- start} or nil, and then as any other. Limit and unique as they are stored are its terms. What holds a special one is
-- !tag:score:terms, so that whoever ends the hold knows the slot without reading the message.

-- A gate is {how many at once, ms between starts, burst, arrival, held, queues with a line}; arrival is GCRA's
-- theoretical arrival time. All of this is made at the first use, by a function that refers to as little as can be:
-- most runs of a script meet no special message, and a closure costs them a tenth of a microsecond for each name.
-- Who may have touched a gate calls `tend` before the script ends.
local keeper = nil
local function gates()
  if keeper then return keeper end
  keeper = {}
  local known, touched, order = {}, {}, {}
  local function base_of(queue) return P .. '{' .. queue .. '}' end
  local function queue_of(base) return string.sub(base, #P + 2, -2) end
  local function ring(base) redis.call('ZADD', base .. ':w', 0, '0') end

  local function split(text, start)
    local middle, limit = cmsgpack.unpack_one(text, start)
    local last, unique = cmsgpack.unpack_one(text, middle)
    return limit, unique, middle, last
  end

  local function is_terms(limit, unique)
    return (limit == nil or type(limit) == 'table' and type(limit[1]) == 'string' and tonumber(limit[2])
      and tonumber(limit[3]) and tonumber(limit[4])) and (unique == nil or type(unique) == 'table'
      and type(unique[1]) == 'string' and tonumber(unique[2]))
  end

  -- Limit, unique and terms of a stored message.
  function keeper.terms(blob)
    local is_one, limit, unique, _, last = pcall(split, blob, 2)
    if not is_one or not is_terms(limit, unique) then return nil, nil, '\192\192' end -- a message that nobody can read
    return limit, unique, string.sub(blob, 3, last)
  end

  -- The same of what holds one.
  function keeper.held(hold)
    local terms = string.match(hold, '^[^:]*:[^:]*:(.*)$')
    local limit, unique = split(terms, 0)
    return limit, unique, terms
  end

  -- A stored message with the terms of its predecessor; a limit of its own comes first.
  function keeper.inherit(blob, terms)
    local limit, unique, rest = '\192', '\192', string.sub(blob, 3)
    if terms then
      local middle = cmsgpack.unpack_one(terms, 0)
      limit, unique = string.sub(terms, 1, middle), string.sub(terms, middle + 1)
    end
    if string.byte(blob) == 153 then
      local own, _, middle, last = split(blob, 2)
      if own then limit = string.sub(blob, 3, middle) end
      rest = string.sub(blob, last + 1)
    end
    return '\153' .. string.sub(blob, 2, 2) .. limit .. unique .. rest
  end

  -- The gate of a key; one that is not there is made where a limit is given.
  function keeper.find(key, limit)
    local gate = known[key]
    if gate == nil then
      local packed = redis.call('HGET', S .. 'gates', key)
      gate = packed and cmsgpack.unpack(packed) or false
      known[key] = gate
    end
    if not gate and limit then
      gate = {limit[2], limit[3], limit[4], 0, 0, {}}
      known[key] = gate
    end
    return gate
  end

  -- To be seen to before the script ends.
  function keeper.touch(key)
    if not touched[key] then
      touched[key] = true
      order[#order + 1] = key
    end
  end

  -- What was said last holds for all of the key.
  function keeper.said(limit)
    local gate = keeper.find(limit[1])
    if gate then
      gate[1], gate[2], gate[3] = limit[2], limit[3], limit[4]
      keeper.touch(limit[1])
    end
  end

  function keeper.join(base, id, score, limit)
    redis.call('ZADD', base .. ':l:' .. limit[1], score, id)
    redis.call('ZADD', base .. ':q', score, id)
    local gate, queue = keeper.find(limit[1], limit), queue_of(base)
    local is_known = false
    for _, name in ipairs(gate[6]) do is_known = is_known or name == queue end
    if not is_known then table.insert(gate[6], queue) end
    keeper.touch(limit[1])
  end

  -- A message left its line without passing; it is not in `q` any more.
  function keeper.quit(base, id, blob)
    local limit = keeper.terms(blob)
    redis.call('ZREM', base .. ':l:' .. limit[1], id)
    redis.call('ZREM', base .. ':g', id)
    keeper.touch(limit[1])
  end

  -- When it lets the next one through, a time that may have passed; nil: when a slot is free.
  local function opens_at(gate)
    if gate[1] > 0 and gate[5] >= gate[1] then return nil end
    return gate[2] == 0 and 0 or gate[4] - (gate[3] - 1) * gate[2]
  end

  function keeper.is_open(gate)
    local at = opens_at(gate)
    return at ~= nil and at <= now
  end

  function keeper.start(key, gate)
    gate[5] = gate[5] + 1
    if gate[2] > 0 then gate[4] = math.max(now, gate[4]) + gate[2] end
    keeper.touch(key)
  end

  -- A hold ended: its slot is free. Returns what `held` does.
  function keeper.vacate(hold)
    local limit, unique, terms = keeper.held(hold)
    if limit then
      local gate = keeper.find(limit[1], limit)
      gate[5] = math.max(0, gate[5] - 1)
      keeper.touch(limit[1])
    end
    return limit, unique, terms
  end

  -- If it is open, sees that claims meet the heads of its lines; otherwise that somebody looks when its token comes.
  local function open(key, gate, quiet)
    local at = opens_at(gate)
    if not at then return end -- whoever gives a slot back comes here again
    local queues = {}
    for _, queue in ipairs(gate[6]) do
      local base = base_of(queue)
      local head = redis.call('ZRANGE', base .. ':l:' .. key, 0, 0, 'WITHSCORES')
      if head[1] then
        queues[#queues + 1] = queue
        if at <= now then
          if redis.call('ZADD', base .. ':g', head[2], head[1]) == 1 and not quiet[base] then ring(base) end
        elseif redis.call('ZADD', base .. ':t', 'CH', at, key) == 1 and redis.call('ZRANK', base .. ':t', key) == 0 then
          ring(base) -- whoever waits must not wait longer than that
        end
      end
    end
    gate[6] = queues
  end

  -- Sees to what was touched. `served`: so many of KEYS, from the first, are bases whose waiters need not be woken.
  function keeper.tend(served)
    local quiet, keys = {}, order
    touched, order = {}, {}
    for k = 1, served or 0 do quiet[KEYS[k]] = true end
    for _, key in ipairs(keys) do
      local gate = keeper.find(key)
      if gate then
        open(key, gate, quiet)
        if gate[5] == 0 and #gate[6] == 0 and gate[4] <= now then
          known[key] = false
          redis.call('HDEL', S .. 'gates', key)
          if redis.call('EXISTS', S .. 'gates') == 0 then redis.call('DEL', S .. 'gated') end
        elseif redis.call('HSET', S .. 'gates', key, cmsgpack.pack(gate)) == 1 then
          redis.call('SET', S .. 'gated', '1')
        end
      end
    end
  end

  -- The message that holds a unique key; `here`: ids that this script has taken in.
  function keeper.holder(unique, here)
    local packed = redis.call('GET', S .. 'unique:' .. unique[1])
    if not packed then return nil end
    local lock = cmsgpack.unpack(packed)
    local id, base = lock[1], base_of(lock[2])
    -- looked up, not kept: whatever removed the message, it holds nothing now
    if lock[4] <= now or redis.call('HEXISTS', base .. ':m', id) == 0 then return nil end
    if lock[3] and not here[id] then
      for _, key in ipairs({':r', ':z', ':q'}) do
        if redis.call('ZSCORE', base .. key, id) then return id end
      end
      return nil
    end
    return id
  end

  function keeper.lock(unique, id, base)
    local lock = cmsgpack.pack({id, queue_of(base), unique[3], now + unique[2]})
    redis.call('SET', S .. 'unique:' .. unique[1], lock, 'PX', unique[2])
  end

  -- Takes a special message in, as `admit` does another; `look`: is_new, if it may have been here before. Returns
  -- whether it is added, whether it is up at once, its limit, and who keeps it out.
  function keeper.admit(base, id, blob, look, here)
    local limit, unique = keeper.terms(blob)
    local is_added, at_once = true, false
    if look then is_added, at_once = look(id) end
    local holder = is_added and unique and keeper.holder(unique, here)
    if holder and holder ~= id then return false, false, limit, holder end
    is_added = is_added and redis.call('HSETNX', base .. ':m', id, blob) == 1
    if is_added and unique then
      keeper.lock(unique, id, base)
      here[id] = true
    end
    if is_added and limit then keeper.said(limit) end
    return is_added, at_once, limit
  end

  -- A message came to its end, or (`base`) goes on in another queue.
  function keeper.unlock(unique, id, base)
    local key = S .. 'unique:' .. unique[1]
    local packed = redis.call('GET', key)
    local lock = packed and cmsgpack.unpack(packed)
    if not lock or lock[1] ~= id then return end
    if base then
      lock[2] = queue_of(base)
      redis.call('SET', key, cmsgpack.pack(lock), 'KEEPTTL')
    else
      redis.call('DEL', key)
    end
  end
  return keeper
end
