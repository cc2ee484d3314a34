-- Ends one delivery and leaves the one message that follows it with the incarnation, if nobody else's turn is before it:
-- a step of a chain whose worker has nothing else to do needs no claim. KEYS: base of the queue of both. ARGV from 5:
-- incarnation, id, tag, state and expires of the result ('-': none), result, id of what follows, fresh, blob, tag for it.
-- Returns 0: not held, nothing was stored; 1: done, as settle.lua would have; 2: done, and what follows is held under
-- the tag, with one delivery; 3: nothing was done, it is for settle.lua.
-- include results.lua
-- include common.lua
-- include incoming.lua
-- include room.lua
local base, incarnation, id, tag = KEYS[1], ARGV[5], ARGV[6], ARGV[7]
local hold_key = base .. ':h:' .. incarnation
local hold = redis.call('HGET', hold_key, id)
if not hold then return 0 end
if string.byte(hold) == 33 then return 3 end
if string.sub(hold, 1, #tag + 1) ~= tag .. ':' then return 0 end
redis.call('HDEL', hold_key, id)
local state, expires, result, follower, fresh, blob = ARGV[8], ARGV[9], ARGV[10], ARGV[11], ARGV[12], ARGV[13]
if state ~= '-' and R ~= '' then store(R .. id, state, result, expires == '-' and '' or expires) end
local is_added, at_once = admit(base, follower, blob, fresh)
redis.call('HDEL', base .. ':m', id)
redis.call('HDEL', base .. ':d', id)
if not is_added then return 1 end
-- A reply that was given up is asked for by a claim; what comes in after that claim nobody would hear of.
local fence = redis.call('GET', S .. 'fence:' .. incarnation)
local others = redis.call('EXISTS', base .. ':r', base .. ':g')
if at_once or others > 0 or (fence and tonumber(ARGV[14]) < tonumber(fence))
   or not redis.call('ZSCORE', S .. 'leases', incarnation) then
  place(base, follower, blob, '')
  return 1
end
local score = rank_of(blob) * RANK + redis.call('INCR', base .. ':n')
redis.call('HSET', hold_key, follower, ARGV[14] .. ':' .. string.format('%.0f', score))
return 2
