-- Ends an incarnation. ARGV from 5: incarnation, ids that were running. Returns how many messages went back.
-- include results.lua
-- include common.lua
-- include ending.lua
-- include room.lua
local running = {}
for i = 6, #ARGV do running[ARGV[i]] = true end
local returned = finish(ARGV[5], running)
if keeper then keeper.tend() end
return returned
