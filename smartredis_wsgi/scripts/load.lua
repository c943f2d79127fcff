-- Read a record and prolong it by its use.
-- KEYS  1 record
-- ARGV  1 ttl in ms; 2 touch_every in ms; 3 max_lifetime in ms, 0 for none; 4 nonce
-- Returns {nonce, kind, prolonged, field, value, ...}: the kind as in record.lua, and
--   prolonged is 1 if the expiry was set anew. Of what was moved: {nonce, moved, grace,
--   key}, where grace is 1 if everybody may still read it by its old id.
local record, nonce, ttl = KEYS[1], ARGV[4], tonumber(ARGV[1])
local kind, meta = look_at(record)
if kind == 'moved' then
  return {nonce, kind, now_ms() < meta.till and 1 or 0, meta.key}
end
if kind ~= 'alive' then return {nonce, kind, 0} end

local left = left_for(meta.ttl or ttl, meta.created, tonumber(ARGV[3]))
if left <= 0 then
  redis.call('UNLINK', record)
  return {nonce, 'absent', 0}
end

-- A shorter life is prolonged in proportion.
local prolonged, now = 0, redis.call('PTTL', record)
if now > left or now < left - ARGV[2] * left / ttl then
  redis.call('PEXPIRE', record, left)
  prolonged = 1
end
local answer = redis.call('HGETALL', record)
table.insert(answer, 1, prolonged)
table.insert(answer, 1, kind)
table.insert(answer, 1, nonce)
return answer
