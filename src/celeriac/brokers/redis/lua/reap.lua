-- Ends incarnations whose lease ran out, forgets orders whose time is over and gates that nobody needs. ARGV 5: at most
-- so many incarnations.
-- include results.lua
-- include common.lua
-- include ending.lua
-- include room.lua
if redis.call('EXISTS', S .. 'sent') == 1 and redis.call('SET', S .. 'sent:turned', '1', 'NX', 'EX', 600) then
  redis.call('RENAME', S .. 'sent', S .. 'sent:before')
end
local returned = 0
for _, incarnation in ipairs(redis.call('ZRANGEBYSCORE', S .. 'leases', '-inf', now, 'LIMIT', 0, ARGV[5])) do
  returned = returned + finish(incarnation, nil)
  redis.call('ZREM', S .. 'leases', incarnation)
end
local over = redis.call('ZRANGEBYSCORE', S .. 'cancelled:until', '-inf', now, 'LIMIT', 0, 1000)
if #over > 0 then
  redis.call('HDEL', S .. 'cancelled', unpack(over))
  redis.call('ZREM', S .. 'cancelled:until', unpack(over))
  redis.call('SREM', S .. 'cancelled:handed', unpack(over))
  if redis.call('EXISTS', S .. 'cancelled:handed') == 0 then redis.call('DEL', S .. 'handed') end
end
local sweep = S .. 'gates:swept'
if redis.call('EXISTS', S .. 'gates', sweep) > 0 then
  local page = redis.call('HSCAN', S .. 'gates', redis.call('GET', sweep) or '0', 'COUNT', 500)
  for i = 1, #page[2], 2 do gates().touch(page[2][i]) end
  if page[1] == '0' then redis.call('DEL', sweep) else redis.call('SET', sweep, page[1]) end
end
if keeper then keeper.tend() end
return returned
