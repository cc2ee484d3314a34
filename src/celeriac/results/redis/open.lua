-- Opens joins. KEYS: their bases. ARGV: for each its size, when it expires ('' never).
-- include joins.lua
for i, base in ipairs(KEYS) do joins.open(base, ARGV[2 * i - 1], ARGV[2 * i]) end
return #KEYS
