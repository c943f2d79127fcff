-- Replace a record by a tombstone. Deleting comes first, so that it works in a full server.
-- KEYS  1 record
-- ARGV  1 life of the tombstone in ms; 2 nonce
-- Returns {nonce, kind}: destroyed (now, or before), or as in record.lua what is there.
--   Where no record of ours is, nothing is written.
local record = KEYS[1]
local kind = look_at(record)
if kind == 'alive' then
  redis.call('UNLINK', record)
  redis.call('SET', record, 'destroyed', 'PX', ARGV[1])
  kind = 'destroyed'
end
return {ARGV[2], kind}
