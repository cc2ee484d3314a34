-- Shows messages. KEYS: a base per queue. ARGV from 5: state ('' all), limit, then ids (none: all).
-- Returns rows {number of the queue, state, id, delivery count, score or due, holder, blob}.
-- include results.lua
-- include common.lua
local state, limit = ARGV[5], tonumber(ARGV[6])
local out = {}
local function show(k, its_state, id, score, holder, key)
  local blob = redis.call('HGET', KEYS[k] .. key, id)
  if blob then
    out[#out + 1] = {k, its_state, id, redis.call('HGET', KEYS[k] .. ':d', id) or '0', score, holder, blob}
  end
end
local incarnations = redis.call('HKEYS', S .. 'incs')
for k, base in ipairs(KEYS) do
  if #ARGV > 6 then
    for i = 7, #ARGV do
      local id = ARGV[i]
      local score = redis.call('ZSCORE', base .. ':r', id) or redis.call('ZSCORE', base .. ':q', id)
      local due = redis.call('ZSCORE', base .. ':z', id)
      if score then
        show(k, 'ready', id, score, '', ':m')
      elseif due then
        show(k, tonumber(due) > now and 'delayed' or 'ready', id, due, '', ':m')
      elseif redis.call('HEXISTS', base .. ':m', id) == 1 then
        for _, incarnation in ipairs(incarnations) do
          if redis.call('HEXISTS', base .. ':h:' .. incarnation, id) == 1 then
            show(k, 'held', id, '0', incarnation, ':m')
          end
        end
      elseif redis.call('HEXISTS', base .. ':b', id) == 1 then
        show(k, 'dead', id, redis.call('ZSCORE', base .. ':x', id), '', ':b')
      end
    end
  else
    if state == '' or state == 'ready' then
      for _, key in ipairs({':r', ':q'}) do
        local ready = redis.call('ZRANGE', base .. key, 0, limit - 1, 'WITHSCORES')
        for i = 1, #ready, 2 do show(k, 'ready', ready[i], ready[i + 1], '', ':m') end
      end
      local due = redis.call('ZRANGEBYSCORE', base .. ':z', '-inf', now, 'WITHSCORES', 'LIMIT', 0, limit)
      for i = 1, #due, 2 do show(k, 'ready', due[i], due[i + 1], '', ':m') end
    end
    if state == '' or state == 'delayed' then
      local later = redis.call('ZRANGEBYSCORE', base .. ':z', '(' .. string.format('%.0f', now), '+inf', 'WITHSCORES', 'LIMIT', 0, limit)
      for i = 1, #later, 2 do show(k, 'delayed', later[i], later[i + 1], '', ':m') end
    end
    if state == '' or state == 'held' then
      local shown = 0
      for _, incarnation in ipairs(incarnations) do
        local held = redis.call('HGETALL', base .. ':h:' .. incarnation)
        for i = 1, #held, 2 do
          if shown < limit then show(k, 'held', held[i], string.match(held[i + 1], ':([^:]+)'), incarnation, ':m') end
          shown = shown + 1
        end
      end
    end
    if state == '' or state == 'dead' then
      local dead = redis.call('ZREVRANGE', base .. ':x', 0, limit - 1, 'WITHSCORES')
      for i = 1, #dead, 2 do show(k, 'dead', dead[i], dead[i + 1], '', ':b') end
    end
  end
end
return out
