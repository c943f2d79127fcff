-- Let a record live as long as its owner's index knows it, which was prolonged before.
-- KEYS  1 record
-- ARGV  1 owner; 2 until when in ms since the epoch; 3 ttl in ms; 4 max_lifetime in ms, 0
--       for none; 5 nonce
-- Returns {nonce}. It is left as it is if it is no more that owner's, or has been prolonged
--   for longer, or the server takes no writes.
local record = KEYS[1]
local kind, meta = look_at(record)
if kind == 'alive' and meta.owner == ARGV[1] then
  local left = left_for(meta.ttl or tonumber(ARGV[3]), meta.created, tonumber(ARGV[4]))
  local now, known = redis.call('PTTL', record), math.min(left, ARGV[2] - now_ms())
  if now > left or now < known then redis.pcall('PEXPIRE', record, known) end
end
return {ARGV[5]}
