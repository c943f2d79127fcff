-- Make a record where there is nothing: the only script that makes the hash.
-- KEYS  1 record
-- ARGV  1 incarnation; 2 ttl in ms; 3 the session's own ttl in ms, '' for none;
--       4 max_lifetime in ms, 0 for none; 5 encoded size in bytes;
--       6.. field, value, ...; last nonce
-- Returns {nonce, outcome, version, incarnation, created in ms} where outcome is stored or
--   gone (something else is there).
-- Run twice, it knows its record by incarnation and nonce and changes nothing.
local record, nonce, incarnation = KEYS[1], ARGV[#ARGV], ARGV[1]
local kind, meta = look_at(record)
if kind == 'alive' and meta.incarnation == incarnation
  and string.find(meta.commits, nonce, 1, true) then
  return {nonce, 'stored', 1, incarnation, string.format('%.0f', meta.created)}
end
if kind ~= 'absent' then return {nonce, 'gone', 0, ''} end

local created = now_ms()
redis.call('HSET', record, '@incarnation', incarnation, '@version', 1,
  '@created', string.format('%.0f', created), '@size', ARGV[5], '@commits', nonce)
if ARGV[3] ~= '' then redis.call('HSET', record, '@ttl', ARGV[3]) end
for i = 6, #ARGV - 1, 2 do
  redis.call('HSET', record, ARGV[i], ARGV[i + 1])
end
local ttl = tonumber(ARGV[3]) or tonumber(ARGV[2])
redis.call('PEXPIRE', record, left_for(ttl, created, tonumber(ARGV[4])))
return {nonce, 'stored', 1, incarnation, string.format('%.0f', created)}
