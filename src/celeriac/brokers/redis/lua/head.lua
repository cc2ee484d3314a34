-- How scripts begin. ARGV: 1 prefix of all keys, 2 prefix of the space's keys, 3 prefix of result keys ('' where
-- results live elsewhere), 4 the time in epoch milliseconds ('' asks the server). What the keys hold: broker.py.
local P, S, R, now = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
if not now then
  local t = redis.call('TIME')
  now = t[1] * 1000 + math.floor(t[2] / 1000)
end
