-- Gives messages that came from kombu's lists their own ids, once the consumer has read them. KEYS: a base per queue.
-- ARGV from 5: incarnation; then per message: number of its queue, the id it was claimed under, tag, its own id, due,
-- blob, or '+' and a blob without its body: that is what came, whole. Returns a string: '1' held under its own id, '2' held, with an order not to run it, '0' not held (delayed, a
-- double, cancelled, or the lease is lost).
-- include results.lua
-- include common.lua
-- include incoming.lua
-- include room.lua
local answers = {}
for p = 6, #ARGV, 6 do
  local base, old, tag, id, due, blob = KEYS[tonumber(ARGV[p])], ARGV[p + 1], ARGV[p + 2], ARGV[p + 3], ARGV[p + 4], ARGV[p + 5]
  local hold_key = base .. ':h:' .. ARGV[5]
  local hold = redis.call('HGET', hold_key, old)
  local answer = '0'
  if hold and string.sub(hold, 1, #tag + 1) == tag .. ':' then
    if string.byte(blob) == 43 then
      local raw = string.sub(redis.call('HGET', base .. ':m', old) or '', 2)
      blob = string.sub(blob, 2) .. struct.pack('>BI4', 198, #raw) .. raw
    end
    redis.call('HDEL', hold_key, old)
    redis.call('HDEL', base .. ':m', old)
    local count = redis.call('HGET', base .. ':d', old)
    if count then redis.call('HDEL', base .. ':d', old) end
    local is_added, at_once = is_new(id)
    if is_added then
      redis.call('HSET', base .. ':m', id, blob)
      if count then redis.call('HSET', base .. ':d', id, count) end
      if due ~= '' and not at_once and tonumber(due) > now then
        place(base, id, blob, due)
      else
        redis.call('HSET', hold_key, id, hold)
        answer = at_once and '2' or '1'
      end
    end
  end
  answers[#answers + 1] = answer
end
return table.concat(answers)
