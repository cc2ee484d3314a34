-- Whether a publish that comes again was carried out the first time; its messages may have run and left no trace. A
-- connection numbers its calls, which come in their order, and `sent` counts how many of each connection were carried
-- out. The last arguments: earlier calls with the same content whose replies were lost ("connection number …"), then
-- connection and number of this one. Noting the number of an earlier call keeps it from being carried out yet.
local function was_sent()
  local sent = S .. 'sent'
  for connection, number in string.gmatch(ARGV[#ARGV - 2], '(%S+) (%d+)') do
    local last = redis.call('HGET', sent, connection) or redis.call('HGET', sent .. ':before', connection)
    if last and tonumber(last) >= tonumber(number) then return true end
  end
  for connection, number in string.gmatch(ARGV[#ARGV - 2], '(%S+) (%d+)') do
    redis.call('HSET', sent, connection, number)
  end
  local number = tonumber(ARGV[#ARGV])
  local n = redis.call('HINCRBY', sent, ARGV[#ARGV - 1], 1)
  if n > number then return true end
  if n < number then redis.call('HSET', sent, ARGV[#ARGV - 1], number) end
  return false
end
