-- Make a record where there is nothing: the only script that makes the hash.
-- KEYS  1 record
-- ARGV  1 incarnation; 2 ttl in ms; 3 the session's own ttl in ms, '' for none;
--       4 max_lifetime in ms, 0 for none; 5 encoded size in bytes;
--       6.. field, value, ...; last nonce
-- Returns {nonce, outcome, version, created in ms} where outcome is stored or gone
--   (something else is there).
-- Run twice, it knows its record by incarnation and nonce and changes nothing.
local record, nonce = KEYS[1], ARGV[#ARGV]
if redis.call('EXISTS', record) == 1 then
  if redis.call('TYPE', record).ok == 'hash'
    and redis.call('HGET', record, '@incarnation') == ARGV[1]
    and string.find(redis.call('HGET', record, '@commits'), nonce, 1, true) then
    return {nonce, 'stored', 1, redis.call('HGET', record, '@created')}
  end
  return {nonce, 'gone', 0}
end

local time = redis.call('TIME')
local created = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', record, '@incarnation', ARGV[1], '@version', 1,
  '@created', string.format('%.0f', created), '@size', ARGV[5], '@commits', nonce)
if ARGV[3] ~= '' then redis.call('HSET', record, '@ttl', ARGV[3]) end
for i = 6, #ARGV - 1, 2 do
  redis.call('HSET', record, ARGV[i], ARGV[i + 1])
end

local remaining = tonumber(ARGV[3]) or tonumber(ARGV[2])
if ARGV[4] ~= '0' then remaining = math.min(remaining, tonumber(ARGV[4])) end
redis.call('PEXPIRE', record, remaining)
return {nonce, 'stored', 1, string.format('%.0f', created)}
