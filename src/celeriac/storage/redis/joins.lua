-- Joins, so that Celery's workers and ours count the members of one chord together (protocol section 8.4). A join lies
-- under a base, and its keys behind that; Celery knows them all but the last:
--   .s size   .t how many members it was extended by   .j sorted set of payloads, by position
--   .d set of <member>:<position>, what has arrived    .c who sees to what follows: OURS, 'done', a token of Celery's
--   .e set of the members that `.t` counts, as far as we extended it
-- When ours completes it, `.s` and `.t` go and `.c` says OURS until it is closed: no worker of Celery's, of any age,
-- counts it as complete from then on, and its members stay as they were.
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

-- Keeps all of it until `at` at least ('' for ever), and a twentieth longer, so that this is written seldom.
-- `left`: the time to live that it had before, in ms, as PTTL says it; `is_new`: a part of it has none yet.
local function keep(base, at, left, is_new)
  if left == -1 then return end
  if at == '' then
    for _, part in ipairs({'.s', '.t', '.j', '.d', '.e'}) do redis.call('PERSIST', base .. part) end
    return
  end
  local ends = left < 0 and 0 or epoch() + left
  if tonumber(at) > ends then ends = at + math.max(0, at - epoch()) / 20 elseif not is_new then return end
  for _, part in ipairs({'.s', '.t', '.j', '.d', '.e'}) do redis.call('PEXPIREAT', base .. part, whole(ends)) end
end

-- Opens a join of `size` members, unless it was opened before.
function joins.open(base, size, at)
  if redis.call('EXISTS', base .. '.c') == 1 then return end
  local left = redis.call('PTTL', base .. '.j')
  if redis.call('SET', base .. '.s', size, 'NX') then keep(base, at, left, true) end
end

-- Whether a worker of Celery's that keeps no `.d` (before 5.7) has brought this member.
local function is_counted(base, is_list, member, place)
  local there
  if is_list then
    there = redis.call('LRANGE', base .. '.j', 0, -1)
  elseif place == '+inf' then
    there = redis.call('ZRANGEBYSCORE', base .. '.j', BEHIND, '+inf')
  else
    there = redis.call('ZRANGEBYSCORE', base .. '.j', place, place)
  end
  for _, payload in ipairs(there) do
    if string.find(string.sub(payload, 1, 256), member, 1, true) then return true end
  end
  return false
end

-- Lets members arrive, at their `places` ('+inf': none). Returns 'now' when these completed the join, so that what
-- follows is to be published; 'before' when others did, and it is not closed yet; '' when it is not complete, is closed,
-- or a worker of Celery's sees to it.
function joins.arrive(base, members, places, payloads, at)
  local known = redis.call('MGET', base .. '.c', base .. '.s', base .. '.t')
  local claim, size, extra = known[1], known[2], known[3]
  if claim == 'done' then return '' end
  if claim == OURS then return 'before' end
  local j, d = base .. '.j', base .. '.d'
  local count = redis.pcall('ZCARD', j)
  local is_list = type(count) == 'table'
  if is_list then count = redis.call('LLEN', j) end -- Celery's result_chord_ordered is off
  local left = redis.call('PTTL', size and base .. '.s' or j)
  local is_first, before = count == 0, count
  local strangers = count > redis.call('SCARD', d)
  for start = 1, #members, 1000 do
    local names, added, last = {}, {}, math.min(#members, start + 999)
    for i = start, last do names[#names + 1] = members[i] .. ':' .. places[i] end
    local arrived = redis.call('SMISMEMBER', d, unpack(names))
    for i = start, last do
      local name, place, payload = names[i - start + 1], places[i], payloads[i]
      if arrived[i - start + 1] == 0 and not added[name] then
        added[name] = true
        added[#added + 1] = name
        if not (strangers and is_counted(base, is_list, members[i], place)) then
          if is_list then
            redis.call('RPUSH', j, payload)
          else
            if place == '+inf' then place = whole(BEHIND + count) end
            -- A payload that is there already is another member's with the same: a blank behind it tells them apart.
            while redis.call('ZADD', j, 'NX', place, payload) == 0 do payload = payload .. ' ' end
          end
          count = count + 1
        end
      end
    end
    if #added > 0 then redis.call('SADD', d, unpack(added)) end
  end
  if count > before then keep(base, at, left, is_first) end
  if claim or not size or count < size + (extra or 0) then return '' end
  -- as long as the members live, for whose sake it is there
  redis.call('SET', base .. '.c', OURS)
  left = redis.call('PTTL', j)
  if left > 0 then redis.call('PEXPIRE', base .. '.c', left) end
  redis.call('DEL', base .. '.s', base .. '.t')
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
  local there = redis.pcall('ZRANGE', base .. '.j', 0, -1)
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
