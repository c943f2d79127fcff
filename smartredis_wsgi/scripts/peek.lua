-- Look at a session that another library has stored; nothing is changed.
-- KEYS  1 its key; 2 its mark, see end.lua
-- ARGV  1 the largest size in bytes that comes; 2 nonce
-- Returns {nonce, kind, left, value}: absent, taken (absent, with a mark), foreign (no
--   string), large or there; then for how many ms it still lies, -1 for ever; and if it is
--   there, what it holds.
local held = redis.call('TYPE', KEYS[1]).ok
if held == 'none' then
  return {ARGV[2], redis.call('EXISTS', KEYS[2]) == 1 and 'taken' or 'absent', 0, ''}
end
if held ~= 'string' then return {ARGV[2], 'foreign', 0, ''} end
local left = redis.call('PTTL', KEYS[1])
if redis.call('STRLEN', KEYS[1]) > tonumber(ARGV[1]) then return {ARGV[2], 'large', left, ''} end
return {ARGV[2], 'there', left, redis.call('GET', KEYS[1])}
