-- Lets members arrive. KEYS: bases of joins. ARGV: for each when it expires ('' never), how many arrive, then their
-- names, positions and payloads. Returns a string with '1' for each join that is complete and ours to go on with.
-- include joins.lua
local answers, p = {}, 1
for k, base in ipairs(KEYS) do
  local at, n = ARGV[p], tonumber(ARGV[p + 1])
  local where = {}
  for i = 1, n do where[i] = p + 3 * i - 1 end
  p = p + 2 + 3 * n
  answers[k] = joins.arrive(base, where, at) == '' and '0' or '1'
end
return table.concat(answers)
