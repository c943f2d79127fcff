-- Read a record and prolong it by its use.
-- KEYS  1 record
-- ARGV  1 ttl in ms; 2 touch_every in ms; 3 max_lifetime in ms, 0 for none; 4 nonce
-- Returns {nonce, kind, prolonged, field, value, ...} where kind is
--   alive, absent, destroyed, moved or foreign (not ours: left as it is), and
--   prolonged is 1 if the expiry was set anew.
local record, nonce = KEYS[1], ARGV[4]
local kind = redis.call('TYPE', record).ok
if kind == 'none' then return {nonce, 'absent', 0} end
if kind == 'string' then
  local mark = redis.call('GET', record)
  if mark ~= 'destroyed' and mark ~= 'moved' then mark = 'foreign' end
  return {nonce, mark, 0}
end
if kind ~= 'hash' then return {nonce, 'foreign', 0} end

local meta = redis.call('HMGET', record, '@incarnation', '@created', '@ttl')
local created = meta[1] and tonumber(meta[2] or '')
if not created then return {nonce, 'foreign', 0} end

local remaining, touch_every = tonumber(ARGV[1]), tonumber(ARGV[2])
local own = tonumber(meta[3] or '')
if own then
  remaining, touch_every = own, math.min(touch_every, math.floor(own / 10))
end
if ARGV[3] ~= '0' then
  local time = redis.call('TIME')
  local age = time[1] * 1000 + math.floor(time[2] / 1000) - created
  remaining = math.min(remaining, tonumber(ARGV[3]) - age)
end
if remaining <= 0 then
  redis.call('UNLINK', record)
  return {nonce, 'absent', 0}
end

local prolonged = 0
local left = redis.call('PTTL', record)
if left > remaining or left < remaining - touch_every then
  redis.call('PEXPIRE', record, remaining)
  prolonged = 1
end
local answer = redis.call('HGETALL', record)
table.insert(answer, 1, prolonged)
table.insert(answer, 1, 'alive')
table.insert(answer, 1, nonce)
return answer
