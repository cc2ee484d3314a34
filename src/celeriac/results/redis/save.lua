-- Writes records. KEYS: theirs. ARGV: for each the payload, when it expires ('' never).
-- include joins.lua
for i, key in ipairs(KEYS) do keep_record(key, ARGV[2 * i - 1], ARGV[2 * i]) end
return #KEYS
