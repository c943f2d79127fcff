-- Look at a session that another library has stored; nothing is changed.
-- KEYS  1 its key; 2 its mark, see end.lua
-- ARGV  1 the largest size in bytes that comes; 2 nonce
-- Returns {nonce, kind}: absent, taken (absent, with a mark), foreign (no string) or large;
--   or {nonce, there, for how many ms it still lies, what it holds}, -1 ms for ever.
local held = redis.call('TYPE', KEYS[1]).ok
if held == 'none' then
  return {ARGV[2], redis.call('EXISTS', KEYS[2]) == 1 and 'taken' or 'absent'}
end
if held ~= 'string' then return {ARGV[2], 'foreign'} end
if redis.call('STRLEN', KEYS[1]) > tonumber(ARGV[1]) then return {ARGV[2], 'large'} end
return {ARGV[2], 'there', redis.call('PTTL', KEYS[1]), redis.call('GET', KEYS[1])}
