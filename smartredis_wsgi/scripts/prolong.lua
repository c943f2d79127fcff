-- Let a record live as long as its owner's index knows it, which was prolonged before.
-- KEYS  1 record
-- ARGV  1 owner; 2 until when in ms since the epoch; 3 ttl in ms; 4 max_lifetime in ms, 0
--       for none; 5 nonce
-- Returns {nonce, 1 if its expiry was set, 0 if it is not there, or no more that owner's}.
local record, done = KEYS[1], 0
local kind, meta = look_at(record)
if kind == 'alive' and meta.owner == ARGV[1] then
  local left = left_for(meta.ttl or tonumber(ARGV[3]), meta.created, tonumber(ARGV[4]))
  local set = redis.pcall('PEXPIRE', record, math.min(left, ARGV[2] - now_ms()))
  if set == 1 then done = 1 end
end
return {ARGV[5], done}
