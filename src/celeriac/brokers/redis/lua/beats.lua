-- The beats that are there: what each says of itself. KEYS: base of a scope.
-- include head.lua
local base, beats = KEYS[1], {}
for _, name in ipairs(redis.call('ZRANGEBYSCORE', base .. ':beats:until', '(' .. string.format('%.0f', now), '+inf')) do
  beats[#beats + 1] = redis.call('HGET', base .. ':beats', name)
end
return beats
