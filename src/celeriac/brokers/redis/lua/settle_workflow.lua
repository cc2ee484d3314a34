-- Ends deliveries, and does what follows them in the same step. Behind the records of settling.lua there are, in this
-- order and each with the number of its record, from 1:
--   R result of another task: its id, state, payload, expires ('' never)
--   K record: its key, payload, expires
--   J join: its base, size, expires
--   S successor: number of the queue, id, due, fresh, blob (number 0: a list of kombu's, '', '', envelope)
--   A arrivals at one join: 0, its base, expires, a successor (five values), how many; then for each the number of its
--     record, name (member:position), position, payload
--   C join to be closed: its base
-- Of a record that was not held, nothing is done. Returns the answers.
-- include settling.lua
-- include joins.lua
local function send(at)
  local number, id, blob = tonumber(ARGV[at]), ARGV[at + 1], ARGV[at + 4]
  if number == 0 then
    redis.call('LPUSH', id, blob)
    return
  end
  local base, due = KEYS[number], ARGV[at + 2]
  local is_added, at_once = admit(base, id, blob, ARGV[at + 3])
  if not is_added then return end
  redis.call('SADD', S .. 'queues', queue_of(base))
  local limit = string.byte(blob) == 153 and gates().terms(blob)
  if limit then gates().said(limit) end
  place(base, id, blob, at_once and '' or due)
end

local opened = {}
while p <= #ARGV do
  local what, is_held = ARGV[p], answers[tonumber(ARGV[p + 1])] == '1'
  p = p + 2
  if what == 'A' then
    local base, at, release, n = ARGV[p], ARGV[p + 1], p + 2, tonumber(ARGV[p + 7])
    p = p + 8
    local where = {}
    for _ = 1, n do
      if answers[tonumber(ARGV[p])] == '1' then where[#where + 1] = p + 1 end
      p = p + 4
    end
    if #where > 0 and joins.arrive(base, where, at) == 'now' then send(release) end
  elseif what == 'S' then
    if is_held then send(p) end
    p = p + 5
  elseif what == 'R' then
    if is_held then store(R .. ARGV[p], ARGV[p + 1], ARGV[p + 2], ARGV[p + 3]) end
    p = p + 4
  elseif what == 'K' then
    if is_held then keep_record(ARGV[p], ARGV[p + 1], ARGV[p + 2]) end
    p = p + 3
  elseif what == 'J' then
    if is_held and not opened[ARGV[p]] then
      opened[ARGV[p]] = true -- members of one chord mostly end together, and each may open it
      joins.open(ARGV[p], ARGV[p + 1], ARGV[p + 2])
    end
    p = p + 3
  else
    if is_held then joins.close(ARGV[p]) end
    p = p + 1
  end
end
if keeper then keeper.tend() end
return table.concat(answers)
