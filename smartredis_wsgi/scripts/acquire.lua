-- Take a lock: python-redis-lock's SET NX, in milliseconds, for a session that is there.
-- Whoever comes while others wait for it waits behind them, also where it is free just now:
-- the one that was woken is on its way. Only who could not wait does not.
-- KEYS  1 lock; 2 its waiters; 3 the record that must be a hash, or the lock for no such
--       check; 4 its signal
-- ARGV  1 token; 2 expiry in ms; 3 most waiters, 0 for any number; 4 for how many ms this
--       one counts as waiting if it does not come back, 0 if it gives up; 5 nonce
-- Returns {nonce, outcome} where outcome is held (also if the token had it already), busy,
--   crowded (busy, and so many wait) or nothing (there is no such record).
local lock, waiters, record = KEYS[1], KEYS[2], KEYS[3]
local token, expiry, most, nonce = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[5]
if record ~= lock and redis.call('TYPE', record).ok ~= 'hash' then
  if redis.call('GET', lock) == token then redis.call('DEL', lock) end -- a first run's
  if redis.call('ZREM', waiters, token) == 1 then -- the signal that woke it is another's
    redis.call('DEL', KEYS[4])
    redis.call('LPUSH', KEYS[4], 1)
    redis.call('PEXPIRE', KEYS[4], 1000)
  end
  return {nonce, 'nothing'}
end

local now, others = 0, redis.call('ZCARD', waiters)
local waits = others > 0 and redis.call('ZSCORE', waiters, token)
if others > 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
  redis.call('ZREMRANGEBYSCORE', waiters, '-inf', now)
  others = redis.call('ZCARD', waiters)
end
local may_take = others == 0 or waits or ARGV[4] == '0'
if may_take and redis.call('SET', lock, token, 'NX', 'PX', expiry)
  or redis.call('GET', lock) == token then
  if waits then redis.call('ZREM', waiters, token) end
  return {nonce, 'held'}
end

if ARGV[4] == '0' then
  redis.call('ZREM', waiters, token)
  return {nonce, 'busy'}
end
if not waits and most > 0 and others >= most then return {nonce, 'crowded'} end
if now == 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
redis.call('ZADD', waiters, now + ARGV[4], token)
redis.call('PEXPIRE', waiters, ARGV[4] + 1000)
return {nonce, 'busy'}
