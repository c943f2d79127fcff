-- Replace a record by a tombstone. Deleting comes first, so that it works in a full server.
-- KEYS  1 record
-- ARGV  1 life of the tombstone in ms; 2 the owner that it must have, '' for any; 3 nonce
-- Returns {nonce, kind, key, owner}: destroyed (now, or before), or as in record.lua what is
--   there, and where it was moved, the key now; the owner of what is destroyed now, or is
--   alive, or ''.
--   Where no such record is, nothing is written.
local record = KEYS[1]
local kind, meta = look_at(record)
local owner = kind == 'alive' and meta.owner or ''
if kind == 'alive' and (ARGV[2] == '' or ARGV[2] == owner) then
  redis.call('UNLINK', record)
  redis.call('SET', record, 'destroyed', 'PX', ARGV[1])
  kind = 'destroyed'
elseif kind == 'destroyed' then
  written_again(record)
end
return {ARGV[3], kind, kind == 'moved' and meta.key or '', owner}
