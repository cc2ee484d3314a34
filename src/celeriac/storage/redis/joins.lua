-- Joins, so that Celery's workers and ours count the members of one chord together (protocol section 8.4). A join lies
-- under a base, and its keys behind that; Celery knows them all but the last:
--   .s size   .t how many members it was extended by   .j sorted set of payloads, by position
--   .d set of <member>:<position>, what has arrived    .c who sees to what follows: OURS, 'done', a token of Celery's
--   .e set of the members that `.t` counts, as far as we extended it
-- When ours completes it, `.s` and `.t` go, `.c` says OURS until it is closed, and `.j` gets one element more, before the
-- first: no worker of Celery's counts it as complete from then on (5.7 looks at `.c`, those from 5.1 on at `.s`, and 5.0,
-- whose size is in the message, finds too many). Its members stay as they were.
local OURS = 'celeriac'
-- Positions of members that have none: behind the others, in order of arrival.
local BEHIND = 4503599627370496

local joins = {}
local wall = nil

local function epoch()
  if not wall then
    local t = redis.call('TIME')
    wall = t[1] * 1000 + math.floor(t[2] / 1000)
  end
  return wall
end

local function whole(number) return string.format('%.0f', number) end

-- Keeps these parts of it until `at` at least ('' for ever), and a twentieth longer, so that this is written seldom.
-- `left`: the time to live that they had before, in ms, as PTTL says it; `is_new`: one of them has none yet.
local function keep(base, at, left, is_new, parts)
  if left == -1 then return end
  if at == '' then
    for i = 1, #parts do redis.call('PERSIST', base .. parts[i]) end
    return
  end
  local ends = left < 0 and 0 or epoch() + left
  if tonumber(at) > ends then ends = at + math.max(0, at - epoch()) / 20 elseif not is_new then return end
  ends = whole(ends)
  for i = 1, #parts do redis.call('PEXPIREAT', base .. parts[i], ends) end
end

-- Opens a join of `size` members, unless it was opened before.
function joins.open(base, size, at)
  if redis.call('EXISTS', base .. '.c') == 1 then return end
  local left = redis.call('PTTL', base .. '.j')
  if redis.call('SET', base .. '.s', size, 'NX') then keep(base, at, left, true, {'.s', '.j', '.d'}) end
end

-- Whether a worker of Celery's that keeps no `.d` (before 5.7) has brought this member.
local function is_counted(base, is_list, name, place)
  local there
  if is_list then
    there = redis.call('LRANGE', base .. '.j', 0, -1)
  elseif place == '+inf' then
    there = redis.call('ZRANGEBYSCORE', base .. '.j', BEHIND, '+inf')
  else
    there = redis.call('ZRANGEBYSCORE', base .. '.j', place, place)
  end
  local member = string.sub(name, 1, -2 - #place)
  for _, payload in ipairs(there) do
    if string.find(string.sub(payload, 1, 256), member, 1, true) then return true end
  end
  return false
end

-- Adds pairs of position and payload. A payload that is there already is another member's that is the same: a blank
-- behind it tells them apart.
local function add(j, added)
  if redis.call('ZADD', j, 'NX', unpack(added)) == #added / 2 then return end
  for i = 1, #added, 2 do
    local score, payload = added[i], added[i + 1]
    if tonumber(redis.call('ZSCORE', j, payload)) ~= tonumber(score) then
      repeat payload = payload .. ' ' until redis.call('ZADD', j, 'NX', score, payload) == 1
    end
  end
end

-- Lets members arrive. `where`: for each, the place in ARGV of its name <member>:<position>, position ('+inf': none)
-- and payload. Returns 'now' when these completed the join, so that what follows is to be published; 'before' when
-- others did, and it is not closed yet; '' when it is not complete, is closed, or a worker of Celery's sees to it.
function joins.arrive(base, where, at)
  local j, d = base .. '.j', base .. '.d'
  local known = redis.call('MGET', base .. '.c', base .. '.s', base .. '.t')
  local claim, size, extra = known[1], known[2], known[3]
  if claim == 'done' then return '' end
  if claim == OURS then return 'before' end
  local before = redis.pcall('ZCARD', j)
  local is_list = type(before) == 'table'
  if is_list then before = redis.call('LLEN', j) end -- Celery's result_chord_ordered is off
  local left = redis.call('PTTL', size and base .. '.s' or j)
  local count = before
  local strangers = before > 0 and before > redis.call('SCARD', d)
  for start = 1, #where, 1000 do
    local last, names, fresh, payloads, seen = math.min(#where, start + 999), {}, {}, {}, {}
    for i = start, last do names[i - start + 1] = ARGV[where[i]] end
    local arrived = redis.call('SMISMEMBER', d, unpack(names))
    for i, name in ipairs(names) do
      if arrived[i] == 0 and not seen[name] then
        seen[name] = true
        fresh[#fresh + 1] = name
        local p = where[start + i - 1]
        local place = ARGV[p + 1]
        if not (strangers and is_counted(base, is_list, name, place)) then
          if not is_list then payloads[#payloads + 1] = place == '+inf' and whole(BEHIND + count) or place end
          payloads[#payloads + 1] = ARGV[p + 2]
          count = count + 1
        end
      end
    end
    if #fresh > 0 then redis.call('SADD', d, unpack(fresh)) end
    if #payloads > 0 then
      if is_list then redis.call('RPUSH', j, unpack(payloads)) else add(j, payloads) end
    end
  end
  if count > before then
    keep(base, at, left, before == 0, extra and {'.j', '.d', '.s', '.t', '.e'} or {'.j', '.d', '.s'})
  end
  if claim or not size or count < size + (extra or 0) then return '' end
  redis.call('SET', base .. '.c', OURS)
  left = redis.call('PTTL', j)
  if left > 0 then redis.call('PEXPIRE', base .. '.c', left) end -- as long as the members, for whose sake it is there
  redis.call('DEL', base .. '.s', base .. '.t')
  if not is_list then redis.call('ZADD', j, '-inf', OURS) end
  return 'now'
end

-- Makes an open join wait for one more member. One that is complete is not opened again: what follows is under way.
function joins.extend(base, member)
  if redis.call('EXISTS', base .. '.c') == 1 or redis.call('SADD', base .. '.e', member) == 0 then return end
  redis.call('INCR', base .. '.t')
  local left = redis.call('PTTL', base .. '.s')
  if left > 0 then
    redis.call('PEXPIRE', base .. '.t', left)
    redis.call('PEXPIRE', base .. '.e', left)
  end
end

-- What has arrived, by position; false when it is closed, or not known.
function joins.members(base)
  local claim = redis.call('GET', base .. '.c')
  if claim == 'done' or not claim and redis.call('EXISTS', base .. '.s', base .. '.j') == 0 then return false end
  local there = redis.pcall('ZRANGEBYSCORE', base .. '.j', '(-inf', '+inf')
  return there.err and redis.call('LRANGE', base .. '.j', 0, -1) or there
end

-- Drops what has arrived, and remembers for an hour at least that who comes now comes too late.
function joins.close(base)
  local left = -2
  for _, part in ipairs({'.c', '.s', '.j'}) do
    local its = redis.call('PTTL', base .. part)
    if its == -1 then its = 86400000 end
    left = math.max(left, its)
  end
  redis.call('UNLINK', base .. '.s', base .. '.t', base .. '.j', base .. '.d', base .. '.e')
  redis.call('SET', base .. '.c', 'done', 'PX', whole(math.max(left, 3600000)))
end

-- Writes a record over what is there.
local function keep_record(key, payload, at)
  if at == '' then redis.call('SET', key, payload) else redis.call('SET', key, payload, 'PXAT', at) end
end
