-- Makes a join wait for one more. KEYS: its base. ARGV: the member.
-- include joins.lua
joins.extend(KEYS[1], ARGV[1])
return 1
