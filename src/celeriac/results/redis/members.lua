-- Reads what has arrived at a join. KEYS: its base. Returns payloads by position; nil when it is closed or not known.
-- include joins.lua
return joins.members(KEYS[1])
