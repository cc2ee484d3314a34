-- Closes joins. KEYS: their bases.
-- include joins.lua
for _, base in ipairs(KEYS) do joins.close(base) end
return #KEYS
