-- Writes results. KEYS: theirs. ARGV: for each its state, the meta, when it expires ('' never).
-- Returns a string with '1' for each that was written and '0' for each that the stored state refused.
-- include results.lua
local answers = {}
for i, key in ipairs(KEYS) do
  local p = 3 * i - 2
  answers[i] = store(key, ARGV[p], ARGV[p + 1], ARGV[p + 2]) and '1' or '0'
end
return table.concat(answers)
