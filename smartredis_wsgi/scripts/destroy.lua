-- Replace a record by a tombstone. Deleting comes first, so that it works in a full server.
-- KEYS  1 record
-- ARGV  1 life of the tombstone in ms; 2 nonce
-- Returns {nonce, outcome} where outcome is destroyed, moved (a tombstone is there, now or
--   since before) or absent (nothing of ours is there; nothing is written).
local record, nonce = KEYS[1], ARGV[2]
local kind = redis.call('TYPE', record).ok
if kind == 'string' then
  local mark = redis.call('GET', record)
  if mark ~= 'destroyed' and mark ~= 'moved' then mark = 'absent' end
  return {nonce, mark}
end
if kind ~= 'hash' or redis.call('HEXISTS', record, '@incarnation') == 0 then
  return {nonce, 'absent'}
end
redis.call('UNLINK', record)
redis.call('SET', record, 'destroyed', 'PX', ARGV[1])
return {nonce, 'destroyed'}
