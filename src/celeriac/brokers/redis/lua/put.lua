-- Writes a row of a schedule, if it has not been changed since. KEYS: base of a scope. ARGV from 5: entry, revision that
-- is expected, '1' where the row says that it is removed, the row. A row is stored as revision:changed at:removed:row.
-- Returns it as stored; in a list, what is stored instead ('': nothing).
-- include head.lua
local base, name, removed = KEYS[1], ARGV[5], ARGV[7]
local old = redis.call('HGET', base .. ':rows', name)
local revision, was_removed = string.match(old or '0:0:1:', '^(%d+):%d+:(%d)')
if (was_removed == '1' and '0' or revision) ~= ARGV[6] then return {old or ''} end
-- Never one that was there before, not even where a fail-over has lost the last changes: beats ask for larger ones.
local time = redis.call('TIME')
local number = math.max(tonumber(redis.call('GET', base .. ':revision') or 0) + 1, time[1] * 1e6 + time[2])
local row = string.format('%.0f:%.0f:%s:', number, now, removed) .. ARGV[8]
redis.call('SET', base .. ':revision', string.format('%.0f', number))
redis.call('HSET', base .. ':rows', name, row)
redis.call('ZADD', base .. ':changes', number, name)
if removed == '1' then
  redis.call('ZADD', base .. ':removed', now, name)
else
  redis.call('ZREM', base .. ':removed', name)
end
return row
