-- Make a record where there is nothing: the only script that makes the hash.
-- KEYS  1 record
-- ARGV  1 incarnation; 2 ttl in ms; 3 the session's own ttl in ms, '' for none;
--       4 max_lifetime in ms, 0 for none; 5 encoded size in bytes;
--       6 owner, '' for none; 7 until when, in ms since the epoch, its index knows the
--       session: no longer may it live; 8.. field, value, ...; last nonce
-- Returns {nonce, outcome, version, incarnation, created in ms} where outcome is stored or
--   gone (something else is there).
-- Run twice, it knows its record by the incarnation and changes nothing.
local record, nonce, incarnation = KEYS[1], ARGV[#ARGV], ARGV[1]
local kind, meta = look_at(record)
if kind == 'alive' and meta.incarnation == incarnation then
  return {nonce, 'stored', 1, incarnation, string.format('%.0f', meta.created)}
end
if kind ~= 'absent' then return {nonce, 'gone', 0, ''} end

local created, own, owner = now_ms(), tonumber(ARGV[3]), ARGV[6]
redis.call('HSET', record, META, packed({incarnation = incarnation, version = 1,
  created = created, owner = owner ~= '' and owner, size = tonumber(ARGV[5]), ttl = own,
  since = math.floor(created / 1000), fresh = 0, nonces = ''}, nonce))
in_parts('HSET', record, ARGV, 8, #ARGV - 1)
local left = left_for(own or tonumber(ARGV[2]), created, tonumber(ARGV[4]))
if owner ~= '' then left = math.min(left, ARGV[7] - created) end
redis.call('PEXPIRE', record, left)
return {nonce, 'stored', 1, incarnation, string.format('%.0f', created)}
