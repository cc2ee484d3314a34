-- Counts. KEYS: pairs of a base and the queue's first list of kombu's. ARGV from 5: kombu's suffixes of the other
-- lists. Returns per queue ready, delayed, held, dead, what is next.
-- include results.lua
-- include common.lua
local out = {}
local incarnations = redis.call('HKEYS', S .. 'incs')
for k = 1, #KEYS, 2 do
  local base = KEYS[k]
  local ready = redis.call('ZCARD', base .. ':r') + redis.call('ZCARD', base .. ':q') + redis.call('ZCOUNT', base .. ':z', '-inf', now)
  if KEYS[k + 1] ~= base then
    ready = ready + redis.call('LLEN', KEYS[k + 1])
    for i = 5, #ARGV do ready = ready + redis.call('LLEN', KEYS[k + 1] .. ARGV[i]) end
  end
  local held = 0
  for _, incarnation in ipairs(incarnations) do held = held + redis.call('HLEN', base .. ':h:' .. incarnation) end
  local head = redis.call('ZRANGE', base .. ':r', 0, 0, 'WITHSCORES')
  local in_line = redis.call('ZRANGE', base .. ':q', 0, 0, 'WITHSCORES')
  if in_line[2] and (not head[2] or tonumber(in_line[2]) < tonumber(head[2])) then head = in_line end
  out[#out + 1] = {
    ready,
    redis.call('ZCOUNT', base .. ':z', '(' .. string.format('%.0f', now), '+inf'),
    held,
    redis.call('ZCARD', base .. ':x'),
    head[1] and redis.call('HGET', base .. ':m', head[1]) or '',
  }
end
return out
