-- Ends incarnations whose lease ran out, and forgets orders whose time is over. ARGV 5: at most so many.
-- include results.lua
-- include common.lua
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
end
return returned
