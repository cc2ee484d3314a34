-- What every beat asks twice a second. KEYS: base of a scope. ARGV: the last revision that it knows. Returns the
-- server's time (seconds, microseconds), the last revision, and the rows that were changed after the one it knows.
local base, time = KEYS[1], redis.call('TIME')
local last, rows = redis.call('GET', base .. ':revision') or '0', {}
if tonumber(last) > tonumber(ARGV[1]) then
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', base .. ':changes', '(' .. ARGV[1], '+inf')) do
    rows[#rows + 1] = redis.call('HGET', base .. ':rows', name)
  end
end
return {time[1], time[2], last, rows}
