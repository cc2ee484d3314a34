-- Forbids tasks to start. ARGV from 5: how long an order is kept in ms, a nonce, then per task: id, terminate, signal,
-- result's state ('' none), result, its expiry, hand out ('1' or '0'). Returns {a string: 'r' removed, 'm' marked;
-- incarnations that hold one}.
-- include results.lua
-- include common.lua
-- include incoming.lua
local answers, holders, found = {}, {}, {}
local bases = {}
for i, queue in ipairs(redis.call('SMEMBERS', S .. 'queues')) do bases[i] = base_of(queue) end
local incarnations = nil
for p = 7, #ARGV, 7 do
  local id, terminate, handed = ARGV[p], ARGV[p + 1] == '1', ARGV[p + 6] == '1'
  local packed = redis.call('HGET', S .. 'cancelled', id)
  local earlier = packed and cmsgpack.unpack(packed) or nil
  if earlier and earlier[1] <= now then earlier = nil end
  handed = handed or (earlier ~= nil and earlier[7] == true) -- who waits for it waits on
  local removed, held, last = false, false, now
  for _, base in ipairs(bases) do
    if redis.call('HEXISTS', base .. ':m', id) == 1 then
      local due = redis.call('ZSCORE', base .. ':z', id)
      if due then last = math.max(last, tonumber(due)) end
      if handed then
        if due then
          redis.call('ZREM', base .. ':z', id)
          place(base, id, redis.call('HGET', base .. ':m', id), '')
        elseif not redis.call('ZSCORE', base .. ':r', id) and not redis.call('ZSCORE', base .. ':q', id) then
          held = base
        end
      else
        local in_line = redis.call('ZREM', base .. ':q', id) > 0
        if in_line then gates().quit(base, id, redis.call('HGET', base .. ':m', id)) end
        if in_line or redis.call('ZREM', base .. ':r', id) + redis.call('ZREM', base .. ':z', id) > 0 then
          redis.call('HDEL', base .. ':m', id)
          redis.call('HDEL', base .. ':d', id)
          removed = true
        else
          held = base
        end
      end
    end
  end
  local order = {last + ARGV[5], terminate, ARGV[p + 2], ARGV[p + 3], ARGV[p + 4], ARGV[p + 5], handed}
  -- an order to stop it is not taken back by one not to start it
  if earlier and earlier[2] and not terminate then
    order[2] = true
    order[3] = earlier[3]
  end
  -- marked even when it is gone: its producer may publish it again after an unknown outcome
  redis.call('HSET', S .. 'cancelled', id, cmsgpack.pack(order))
  redis.call('ZADD', S .. 'cancelled:until', order[1], id)
  if handed then
    redis.call('SADD', S .. 'cancelled:handed', id)
    redis.call('SET', S .. 'handed', '1')
  end
  if removed then revoked(id, order) end
  if held then
    incarnations = incarnations or redis.call('HKEYS', S .. 'incs')
    for _, incarnation in ipairs(incarnations) do
      if not found[incarnation] and redis.call('HEXISTS', held .. ':h:' .. incarnation, id) == 1 then
        found[incarnation] = true
        holders[#holders + 1] = incarnation
      end
    end
  end
  answers[#answers + 1] = removed and 'r' or 'm'
end
if keeper then keeper.tend() end
local stamp = redis.call('INCR', S .. 'stamp')
redis.call('PUBLISH', P .. 'news', stamp .. ' ' .. ARGV[6] .. ' ' .. table.concat(holders, ','))
return {table.concat(answers), holders}
