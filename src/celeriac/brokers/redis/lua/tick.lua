-- Moves marks of schedules, and publishes what goes with them. KEYS: the hash of marks; then bases of queues, and lists
-- of kombu's. ARGV from 5, per tick: entry, where its mark must stand (0: nowhere yet), where it stands then,
-- fingerprint, how many instants are passed over, why, '1' to publish nothing while the last message lives; number of
-- the key that the message goes to (0: there is none), 'K' where that is a list of kombu's, id, due, blob or envelope.
-- A mark is {at, fingerprint, id, published at, runs, skipped, note, list of kombu's}; instants are strings, as numbers
-- they would be rounded sooner or later. Returns for each its verdict (fired, overlap, passed, lost) and the mark.
-- include results.lua
-- include common.lua
-- include incoming.lua
local MARKS, here = KEYS[1], {}

-- The hashes in which a message may be, live or dead: those that exist, looked up once for all ticks of this run.
local live, dead, is_known = nil, {}, {}
local function look_round()
  live = {}
  for _, queue in ipairs(redis.call('SMEMBERS', S .. 'queues')) do
    local base = base_of(queue)
    if redis.call('EXISTS', base .. ':m') == 1 then
      live[#live + 1] = base .. ':m'
      is_known[base] = true
    end
    if redis.call('EXISTS', base .. ':b') == 1 then dead[#dead + 1] = base .. ':b' end
  end
end

local function is_in(hashes, id)
  for _, key in ipairs(hashes) do
    if redis.call('HEXISTS', key, id) == 1 then return true end
  end
  return false
end

lives = function(id)
  if not live then look_round() end
  return is_in(live, id) or is_in(dead, id)
end

-- Whether a message has not ended. Of those for Celery's workers it is known as long as they wait in their list, not
-- too deep; a worker of Celery's that takes one leaves no trace of its id.
local function is_live(id, list)
  if not live then look_round() end
  if is_in(live, id) then return true end
  if list == '' then return false end
  local ours, theirs = '"id":"' .. id .. '"', '"id": "' .. id .. '"'
  for first = 0, 950, 50 do
    local waiting = redis.call('LRANGE', list, first, first + 49)
    for _, envelope in ipairs(waiting) do
      if string.find(envelope, ours, 1, true) or string.find(envelope, theirs, 1, true) then return true end
    end
    if #waiting < 50 then break end
  end
  return false
end

-- Whether the message counts as published: nobody else keeps it out.
local function publish(p)
  local key, id, due, blob = KEYS[tonumber(ARGV[p])], ARGV[p + 2], ARGV[p + 3], ARGV[p + 4]
  if ARGV[p + 1] == 'K' then
    redis.call('LPUSH', key, blob)
    return true
  end
  local is_added, at_once, _, holder
  if string.byte(blob) == 153 then
    is_added, at_once, _, holder = gates().admit(key, id, blob, is_new, here)
  else
    is_added, at_once = admit(key, id, blob, '0')
  end
  if is_added then
    place(key, id, blob, at_once and '' or due)
    if not is_known[key] then
      is_known[key] = true
      live[#live + 1] = key .. ':m'
      redis.call('SADD', S .. 'queues', queue_of(key))
    end
  end
  return not holder
end

local answers = {}
for p = 5, #ARGV, 12 do
  local name, after, verdict = ARGV[p], ARGV[p + 1], 'lost'
  local packed = redis.call('HGET', MARKS, name)
  local mark = packed and cmsgpack.unpack(packed) or {'0', '', '', 0, 0, 0, '', ''}
  if mark[1] == after then
    local key, skipped, note = ARGV[p + 7], tonumber(ARGV[p + 4]), ARGV[p + 5]
    verdict = 'passed'
    if key ~= '0' then
      verdict = 'overlap'
      local waits = ARGV[p + 6] == '1' and mark[3] ~= '' and is_live(mark[3], mark[8])
      if not waits and publish(p + 7) then verdict = 'fired' end
    end
    if verdict == 'fired' then
      mark[3], mark[4], mark[5], note = ARGV[p + 9], now, mark[5] + 1, ''
      mark[8] = ARGV[p + 8] == 'K' and KEYS[tonumber(key)] or ''
    elseif verdict == 'overlap' then
      skipped, note = skipped + 1, 'overlap'
    end
    mark[1], mark[2], mark[6], mark[7] = ARGV[p + 2], ARGV[p + 3], mark[6] + skipped, note
    packed = cmsgpack.pack(mark)
    redis.call('HSET', MARKS, name, packed)
  end
  answers[#answers + 1] = verdict
  answers[#answers + 1] = packed or ''
end
if keeper then keeper.tend() end
return answers
